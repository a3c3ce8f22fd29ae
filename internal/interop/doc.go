// Package interop holds the library against what others wrote: published test
// vectors that are too large, and implementations that bring too much, for
// the module that users import. It is a module of its own, has tests only,
// and needs the newest Go that one of these asks for.
package interop
