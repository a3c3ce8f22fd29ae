package hid

import _ "embed"

//go:embed 70-fido.rules
var udevRules string

// UdevRules returns the rules with which udev, on Linux, gives the people who
// sit at the machine access to authenticators: the content of a file for
// /etc/udev/rules.d, with a name that sorts before 73. systemd brings rules to
// the same effect from version 244 on. The source of this package has them in
// the file 70-fido.rules.
func UdevRules() string { return udevRules }
