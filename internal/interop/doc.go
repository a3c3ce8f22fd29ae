// Package interop holds the library against what others wrote: published test
// vectors that are too large, and implementations that bring too much, for
// the module that users import. It is a module of its own, and needs the newest
// Go that one of these asks for. All but the measurement of costs, in folder
// measure, are tests.
package interop
