// Package guest holds the tests of the library on a real kernel: its HID layer,
// its USB stack, and libusb; and of the software key there with the programs of
// libfido2 and OpenSSH, and with examples/fidoctl. They run in a virtual
// machine, as root, on keys that they plug in and pull out; .ci/guest builds the
// machine and runs them there. Outside of it they are not built: their build tag
// is guest.
package guest
