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
// "Reports alone" is the floor under a program in Go: it writes the same reports and
// reads the answer to its end, or starts, reads the same bytes and exits, and does
// nothing with them.
// The ratio is to libfido2, and to the floor for PING, start and size.
//
// # What came out
//
// On a virtual machine with two processors that have nothing else to do, on a host
// that others use too, with Go 1.26, libfido2 1.12 and python-fido2 0.9:
//
//	what                        key                fido    libfido2  python-fido2  reports alone  ratio  limit
//	getInfo, µs                 replies in memory  6.4     19.2      195.6                        0.33   1.00
//	getAssertion, µs            replies in memory  2.6     6.3       53.1                         0.41   1.00
//	getInfo, µs                 virtual, in poll   61.4    76.9      315.3         44.6           0.80   1.00
//	getAssertion, µs            virtual, in poll   50.2    57.0      163.4         41.5           0.88   1.00
//	getInfo, µs                 virtual            93.9    87.1      343.4         74.2           1.08
//	getAssertion, µs            virtual            110.1   66.4      181.2         90.3           1.66
//	getAssertion with PIN, µs   virtual            385.4   769.1     1247.1                       0.50   1.00
//	getInfo, µs                 a report each ms   473.8   378.6     891.8         544.9          1.25
//	PING, µs                    echo               609.1             1346.1        573.9          1.06   2.00
//	start to exit, elapsed, µs  canned             3191.9  3585.9    125191.7      2315.4         1.38   1.50
//	start to exit, µs           canned             3078.0  3086.0    124357.0      2085.0         1.48   1.50
//	size, MB                                       3.3     5.3                     1.6            2.03   2.80
//
// In eight of eleven such runs getAssertion in poll was 0.84 to 0.97 times libfido2's;
// in three, with the host busy, 1.01, 1.03 and 1.17 times. With a third program that sweeps the
// caches it is 1.1 times: code that has to be fetched anew costs more than what it does.
// Where Go's runtime waits, getInfo on virtual was 0.73 to 1.11 times, and getAssertion
// 0.90 to 1.66 times.
//
// # How to read it
//
// The library itself takes less than libfido2: a third for getInfo, two fifths for
// getAssertion, and behind a socket, where each wait leaves the caches cold, four
// fifths, and nine tenths. Where Go's runtime waits for the reports it pays more
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
// And by that of getAssertion on virtual, in poll, 64.6 µs before, of which 51.2 are the
// reports alone, on a slower day:
//
//   - Identifiers are found by length, not in a map (internal/cbor), an assertion and
//     its authenticator data are one allocation, and what is decided about verification
//     takes none (ctap2): 63.1 µs.
//   - A clock that starts with the Device instead of time.Now, which reads two
//     (hid.Device): 3 µs less.
//   - The parameters stay on the stack, with room for the whole list at once (ctap2): no
//     difference with one credential, 3.1 to 1.3 µs to encode a list of eight.
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
//   - poll before the first read of an answer, in poll: a system call less, and no
//     difference.
//   - Curves that are made when first used, not at the start of the program: no
//     difference from start to exit that could be measured.
package main
