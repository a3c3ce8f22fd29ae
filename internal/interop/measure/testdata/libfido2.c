/*
 * libfido2 does one thing with a key many times, and prints the processor time
 * of one, in nanoseconds.
 *
 *	libfido2 OPERATION TIMES CREDENTIAL REPLIES
 *
 * REPLIES is a folder with the key's answers, which are then all there is to
 * the key. If it is empty, the key is at the other end of the socket that the
 * program inherits as descriptor 3, one report in each packet.
 *
 * The operation "print" is getInfo once, printed, with no figure.
 */

#include <err.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fido.h>

enum { DESCRIPTOR = 3, REPORT = 64 };

static fido_dev_t *dev;
static const char *pin;
static unsigned char credential[256];
static size_t credential_len;

/*
 * Report I/O. From the socket it is libfido2's own for Linux: poll, then read.
 * From memory it is a copy of what comes next.
 */

static bool memory;
static unsigned char init[REPORT], info[64 * REPORT], assertion[64 * REPORT];
static size_t info_len, assertion_len;
static const unsigned char *next;
static size_t next_len;

static void *
io_open(const char *path)
{
	static int descriptor = DESCRIPTOR;

	(void)path;
	return &descriptor;
}

static void
io_close(void *handle)
{
	(void)handle;
}

static int
io_read(void *handle, unsigned char *buf, size_t len, int ms)
{
	struct pollfd p = { .fd = *(int *)handle, .events = POLLIN };

	if (len != REPORT)
		return -1;
	if (memory) {
		if (next_len == 0)
			return -1;
		memcpy(buf, next, REPORT);
		next += REPORT;
		next_len -= REPORT;
		return REPORT;
	}
	if (poll(&p, 1, ms) != 1)
		return -1;
	return (int)read(p.fd, buf, len);
}

static int
io_write(void *handle, const unsigned char *buf, size_t len)
{
	static unsigned char command;
	static int left;

	if (len != REPORT + 1) /* a report ID is in front */
		return -1;
	buf++;
	if (!memory)
		return write(*(int *)handle, buf, REPORT) == REPORT ? (int)len : -1;
	if (buf[4] == 0x86) {
		memcpy(init + 7, buf + 7, 8);
		next = init;
		next_len = REPORT;
		return (int)len;
	}
	if (buf[4] & 0x80) {
		command = buf[7];
		left = (buf[5] << 8 | buf[6]) - 57;
	} else
		left -= 59;
	if (left <= 0) {
		next = command == 4 ? info : assertion;
		next_len = command == 4 ? info_len : assertion_len;
	}
	return (int)len;
}

static size_t
read_reply(const char *folder, const char *name, unsigned char *buf, size_t size)
{
	char path[4096];
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	if ((f = fopen(path, "rb")) == NULL)
		err(1, "%s", path);
	len = fread(buf, 1, size, f);
	fclose(f);
	return len;
}

static void
must(int r)
{
	if (r != FIDO_OK)
		errx(1, "%s", fido_strerr(r));
}

static void
get_info(bool print)
{
	fido_cbor_info_t *ci = fido_cbor_info_new();
	char **versions;
	bool found = false;

	must(fido_dev_get_cbor_info(dev, ci));
	versions = fido_cbor_info_versions_ptr(ci);
	for (size_t i = 0; i < fido_cbor_info_versions_len(ci); i++) {
		found = found || strcmp(versions[i], "FIDO_2_1") == 0;
		if (print)
			puts(versions[i]);
	}
	if (!found)
		errx(1, "the reply is not the one expected");
	for (size_t i = 0; print && i < fido_cbor_info_options_len(ci); i++)
		printf("%s %d\n", fido_cbor_info_options_name_ptr(ci)[i],
		    fido_cbor_info_options_value_ptr(ci)[i]);
	fido_cbor_info_free(&ci);
}

static void
get_assertion(void)
{
	static const unsigned char hash[32];
	fido_assert_t *assert = fido_assert_new();

	must(fido_assert_set_rp(assert, "example.com"));
	must(fido_assert_set_clientdata_hash(assert, hash, sizeof(hash)));
	must(fido_assert_allow_cred(assert, credential, credential_len));
	must(fido_dev_get_assert(dev, assert, pin));
	if (fido_assert_count(assert) != 1 || fido_assert_sig_len(assert, 0) == 0)
		errx(1, "the reply is not the one expected");
	fido_assert_free(&assert);
}

static long long
processor_time(void)
{
	struct rusage u;

	if (getrusage(RUSAGE_SELF, &u) != 0)
		err(1, "getrusage");
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000LL +
	    (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000LL;
}

int
main(int argc, char **argv)
{
	const fido_dev_io_t io = { io_open, io_close, io_read, io_write };
	long long before = 0;
	bool get;
	long n;

	if (argc != 5)
		errx(1, "usage: libfido2 OPERATION TIMES CREDENTIAL REPLIES");
	if (argv[4][0] != '\0') {
		memory = true;
		read_reply(argv[4], "init", init, sizeof(init));
		info_len = read_reply(argv[4], "getInfo", info, sizeof(info));
		assertion_len = read_reply(argv[4], "getAssertion", assertion, sizeof(assertion));
	}
	fido_init(0);
	if ((dev = fido_dev_new()) == NULL)
		errx(1, "fido_dev_new");
	must(fido_dev_set_io_functions(dev, &io));
	must(fido_dev_open(dev, "key"));
	if (strcmp(argv[1], "print") == 0) {
		get_info(true);
		return 0;
	}
	get = strcmp(argv[1], "getInfo") == 0;
	if (strcmp(argv[1], "getAssertion with PIN") == 0)
		pin = "271828";
	for (const char *p = argv[3]; sscanf(p, "%2hhx", &credential[credential_len]) == 1; p += 2)
		if (++credential_len == sizeof(credential))
			errx(1, "a credential ID of this length");
	n = atol(argv[2]);
	for (long i = -(n / 10 + 1); i < n; i++) {
		if (i == 0)
			before = processor_time();
		if (get)
			get_info(false);
		else
			get_assertion();
	}
	printf("%lld\n", (processor_time() - before) / n);
	fido_dev_close(dev);
	fido_dev_free(&dev);
	return 0;
}
