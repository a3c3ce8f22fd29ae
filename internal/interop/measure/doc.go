//go:build linux

// Measure holds this library's costs against those of Debian's libfido2 and
// python3-fido2. One command builds all programs, runs them in turn, round by
// round, and prints medians:
//
//	go run -C internal/interop ./measure
//
// It needs Debian's gcc, libc6-dev, pkg-config, libfido2-dev and python3-fido2. It
// fails if a ratio is over its limit. With -quick it takes few rounds, half as much
// again for the limits, for a busy machine, and none for elapsed time.
//
// # What is measured
//
// Every program gets the same key: the software authenticator of package virtual,
// with a PIN and one credential, which the allow list names. No program verifies a
// signature. Processor time is what a program's own process takes, of the system's
// too, by getrusage.
//
//   - replies in memory: the program's report I/O copies replies that were recorded
//     from the key. Nothing is measured but the library.
//   - virtual: the key is in the measuring process, behind a socket that keeps the
//     borders between reports. The report I/O is what each library does with a
//     device node on Linux: package hid's own (internal/devfile), libfido2's poll and
//     read, Python's recv. What the key takes to sign is not the program's.
//   - virtual, in poll: the same, but our report I/O waits in poll too, and Go's runtime
//     is told of no system call. A library cannot do that to a program, which may have
//     other goroutines; but so it is the two libraries that are compared, and not
//     two ways to wait.
//   - a report each ms: recorded replies behind the same socket, at the pace of USB,
//     so that each report is waited for.
//   - PING: the largest CTAPHID_PING, 129 reports there and 129 back. libfido2 has no
//     function for it.
//   - start to exit: a program that opens the key and prints what getInfo says, of
//     recorded replies behind the socket. libfido2 asks twice: fido_dev_open keeps
//     no more of the reply than it needs.
//   - size: of that program, without symbols; ours without cgo, and with the code to
//     find and open HID devices; libfido2's with the libraries that it loads, besides
//     the C library.
//
// "Reports alone" is the floor under a program in Go: it writes and reads the same
// reports, or starts, reads the same bytes and exits, and does nothing with them.
// The ratio is to libfido2, and to the floor for PING, start and size.
//
// # What came out
//
// On a virtual machine with two processors that have nothing else to do, with Go
// 1.26, libfido2 1.12 and python-fido2 0.9:
//
//	what                        key                fido    libfido2  python-fido2  reports alone  ratio  limit
//	getInfo, µs                 replies in memory  4.6     16.0      130.5                        0.29   1.00
//	getAssertion, µs            replies in memory  2.1     5.3       32.7                         0.40   1.00
//	getInfo, µs                 virtual, in poll   46.6    62.5      208.3         35.0           0.75   1.00
//	getAssertion, µs            virtual, in poll   38.4    40.5      109.6         30.0           0.95   1.00
//	getInfo, µs                 virtual            64.0    58.4      205.6         54.1           1.10
//	getAssertion, µs            virtual            66.4    43.9      130.2         59.6           1.51
//	getAssertion with PIN, µs   virtual            302.6   481.7     869.2                        0.63   1.00
//	getInfo, µs                 a report each ms   296.0   171.6     532.5         222.7          1.73
//	PING, µs                    echo               448.0             936.2         431.4          1.04   2.00
//	start to exit, elapsed, µs  canned             2256.3  2485.7    84255.6       1756.9         1.28   1.50
//	start to exit, µs           canned             2170.0  2159.0    83662.0       1576.0         1.38   1.50
//	size, MB                                       3.3     5.3                     1.6            2.04   2.80
//
// In seven of eight such runs getAssertion in poll was 0.91 to 0.99 times libfido2's;
// in one, with the machine's host busy, 1.16 times. Where Go's runtime waits, getInfo
// on virtual was 0.97 to 1.22 times, and getAssertion 1.51 to 1.63 times; with the
// processors busy, which makes waits cheap, 0.91 to 1.2 and 1.1 to 1.5.
//
// # How to read it
//
// The library itself takes less than libfido2: a third for getInfo, two fifths for
// getAssertion, and behind a socket, where each wait leaves the caches cold, three
// quarters, and about as much. Where Go's runtime waits for the reports it pays more
// for each wait than C does: on virtual the floor, which does nothing at all with the
// reports, is as high as all of libfido2, or higher. That grows with the number of
// waits, not with the work; getAssertion has as many as getInfo. With a PIN, elliptic
// curves outweigh both.
//
// # What made it so
//
// By the processor time of getInfo at a report each millisecond, before and after, on
// the same machine:
//
//   - Reads of device nodes that the runtime is not told of (internal/devfile): 527 to
//     252 µs. A system call that is announced wakes the runtime's monitor thread, each
//     time that the program was idle.
//   - Read deadlines that are kept from packet to packet while they are early enough
//     (hid.Device): 252 to 229 µs, and 8 % of getInfo without waits.
//
// And by that of getAssertion in memory, 3.1 µs before:
//
//   - The clock is read once for each packet, and an exchange whose turn it is at once
//     does not select among channels (hid.Device): 2.5 µs.
//   - getAssertion's parameters are appended by hand (ctap2): 2.2 µs, and 2 of 57 µs on
//     virtual.
//
// And what was thrown away:
//
//   - poll and read in one blocking system call each, as in C: 20 % less than devfile on
//     virtual, but 780 µs at a report each millisecond, because the runtime's monitor
//     then looks at the program every 20 µs.
//   - The same for devices that have answered within 500 µs many times in a row, with
//     the poller in between now and then: up to a third less on virtual where there are
//     two processors, half as much again where there is one, and a hundred lines that
//     nobody wants to maintain. Nearer time limits, of which the runtime need not be
//     told, cost more than they save: 7 to 12 µs for the timer, in C too.
//   - Writes that the runtime is not told of: a third less on virtual. A write to a
//     device node blocks until the device has taken the report, which may be seconds.
//   - Curves that are made when first used, not at the start of the program: no
//     difference from start to exit that could be measured.
package main
