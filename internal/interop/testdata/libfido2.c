/*
 * A platform and its relying parties on libfido2, for foreign_test.go.
 *
 *	libfido2 SOCKET [ALGORITHM ALGORITHM...]
 *
 * The key is at the other end of a SOCK_SEQPACKET socket, one report of 64
 * bytes per packet. The algorithms are COSE numbers; a credential is made with
 * each. Without any, the key has to be one of U2F alone. Every step writes one
 * line to stdout, a JSON object with the name of the step and, if it failed,
 * what went wrong. A line {"ask": …} asks the person at the key for something;
 * the answer is a line on stdin.
 *
 * The relying party's checks are libfido2's own: fido_cred_verify and
 * fido_assert_verify look at the RP ID hash, the flags that were asked for, the
 * extensions that were asked for, and the signature.
 */

#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <fido.h>
#include <fido/bio.h>
#include <fido/config.h>
#include <fido/credman.h>
#include <fido/eddsa.h>
#include <fido/es256.h>
#include <fido/es384.h>
#include <fido/rs256.h>

static const char first_pin[] = "271828";
static const char second_pin[] = "сова-6022";
static const char third_pin[] = "2718281828";
static const char wrong_pin[] = "000000";

static const char *path;
static fido_dev_t *dev;
static bool cancel_when_touch_needed;
static unsigned touch_needed; /* keepalives that said so */

/* The line that a step writes, and what is wrong, if anything is. */
static FILE *line;
static char problem[512];

/* A variable of libfido2's type T_t *, freed with its scope. */
#define AUTO(T) __attribute__((cleanup(T##_free))) T##_t *

#define CHECK(condition) do { \
	if (!(condition)) \
		return wrong("line %d: not so: %s", __LINE__, #condition); \
} while (0)

#define EXPECT(status, call) do { \
	int r_ = (call); \
	if (r_ != (status)) \
		return wrong("line %d: %s: %s, not %s", __LINE__, #call, \
		    fido_strerr(r_), #status); \
} while (0)

static bool __attribute__((format(printf, 1, 2)))
wrong(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(problem, sizeof(problem), format, args);
	va_end(args);
	return false;
}

static void
put_string(const char *s)
{
	fputc('"', line);
	for (; s != NULL && *s != '\0'; s++)
		if (*s == '"' || *s == '\\' || (unsigned char)*s < ' ')
			fprintf(line, "\\u%04x", (unsigned char)*s);
		else
			fputc(*s, line);
	fputc('"', line);
}

static void
put_strings(char * const *s, size_t n)
{
	fputc('[', line);
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			fputc(',', line);
		put_string(s[i]);
	}
	fputc(']', line);
}

static void
put_hex(const unsigned char *p, size_t n)
{
	fputc('"', line);
	for (size_t i = 0; i < n; i++)
		fprintf(line, "%02x", p[i]);
	fputc('"', line);
}

static bool
ask(const char *what)
{
	char answer[16];

	printf("{\"ask\":\"%s\"}\n", what);
	fflush(stdout);
	return fgets(answer, sizeof(answer), stdin) != NULL;
}

/* Report I/O. */

static int key = -1;

static void *
io_open(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(name) >= sizeof(address.sun_path))
		return NULL;
	strcpy(address.sun_path, name);
	if ((key = socket(AF_UNIX, SOCK_SEQPACKET, 0)) < 0)
		return NULL;
	if (connect(key, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(key);
		return NULL;
	}
	return &key;
}

static void
io_close(void *handle)
{
	close(*(int *)handle);
}

static int
io_read(void *handle, unsigned char *report, size_t size, int ms)
{
	struct pollfd p = { .fd = *(int *)handle, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, ms) != 1 || (n = read(p.fd, report, size)) <= 0)
		return -1;
	if (n <= 7 || report[4] != (CTAP_FRAME_INIT | CTAP_KEEPALIVE) ||
	    report[7] != 2)
		return (int)n;
	touch_needed++;
	/*
	 * fido_dev_cancel is for another thread, or a signal handler, while
	 * this one waits in fido_dev_make_cred. It does just that here.
	 */
	if (cancel_when_touch_needed) {
		cancel_when_touch_needed = false;
		if (fido_dev_cancel(dev) != FIDO_OK)
			return -1;
	}
	return (int)n;
}

/* libfido2 puts the report ID in front, as hidraw wants it. */
static int
io_write(void *handle, const unsigned char *report, size_t size)
{
	if (size < 1 || report[0] != 0 ||
	    send(*(int *)handle, report + 1, size - 1, MSG_NOSIGNAL) < 0)
		return -1;
	return (int)size;
}

static bool
open_key(void)
{
	EXPECT(FIDO_OK, fido_dev_open(dev, path));
	EXPECT(FIDO_OK, fido_dev_set_timeout(dev, 20000));
	return true;
}

static bool
power_cycle(void)
{
	EXPECT(FIDO_OK, fido_dev_close(dev));
	CHECK(ask("power cycle"));
	return open_key();
}

/* What the key says of itself. */

static bool
has_option(const char *name, bool *value)
{
	AUTO(fido_cbor_info) info = fido_cbor_info_new();

	if (fido_dev_get_cbor_info(dev, info) != FIDO_OK)
		return false;
	for (size_t i = 0; i < fido_cbor_info_options_len(info); i++)
		if (strcmp(fido_cbor_info_options_name_ptr(info)[i], name) == 0) {
			*value = fido_cbor_info_options_value_ptr(info)[i];
			return true;
		}
	return false;
}

static bool
option(const char *name)
{
	bool value;

	return has_option(name, &value) && value;
}

/* Numbers that a key lacks are 0. */
static uint64_t
number(uint64_t (*of)(const fido_cbor_info_t *))
{
	AUTO(fido_cbor_info) info = fido_cbor_info_new();

	return fido_dev_get_cbor_info(dev, info) == FIDO_OK ? of(info) : 0;
}

static bool
new_pin_required(void)
{
	AUTO(fido_cbor_info) info = fido_cbor_info_new();

	return fido_dev_get_cbor_info(dev, info) == FIDO_OK &&
	    fido_cbor_info_new_pin_required(info);
}

static int
room(void)
{
	AUTO(fido_cbor_info) info = fido_cbor_info_new();

	if (fido_dev_get_cbor_info(dev, info) != FIDO_OK)
		return -2;
	return (int)fido_cbor_info_rk_remaining(info);
}

static int
retries(void)
{
	int n;

	return fido_dev_get_retry_count(dev, &n) == FIDO_OK ? n : -1;
}

/* Requests. What is left out of them is absent. */

struct registration {
	int algorithm; /* ES256 */
	const char *rp;
	const char *user; /* user ID, and the start of both names */
	const char *pin;
	fido_opt_t rk;
	fido_opt_t uv; /* with a PIN: true */
	int extensions;
	int protection;
	const unsigned char *blob; /* credBlob */
	size_t blob_len;
	const fido_cred_t *exclude;
};

static const unsigned char unknown_id[64] = "nobody's credential";

static int
enroll(fido_cred_t **cred, const struct registration *r)
{
	unsigned char hash[32];
	char name[64], display[64];
	int s;

	fido_cred_free(cred);
	if ((*cred = fido_cred_new()) == NULL ||
	    getrandom(hash, sizeof(hash), 0) != sizeof(hash))
		return FIDO_ERR_INTERNAL;
	snprintf(name, sizeof(name), "%s@example.com", r->user);
	snprintf(display, sizeof(display), "%s Ångström", r->user);
	if ((s = fido_cred_set_type(*cred,
	        r->algorithm != 0 ? r->algorithm : COSE_ES256)) != FIDO_OK ||
	    (s = fido_cred_set_clientdata_hash(*cred, hash, sizeof(hash))) != FIDO_OK ||
	    (s = fido_cred_set_rp(*cred, r->rp, "Example")) != FIDO_OK ||
	    (s = fido_cred_set_user(*cred, (const void *)r->user,
	        strlen(r->user), name, display, NULL)) != FIDO_OK ||
	    (s = fido_cred_set_rk(*cred, r->rk)) != FIDO_OK ||
	    (s = fido_cred_set_uv(*cred,
	        r->pin != NULL ? FIDO_OPT_TRUE : r->uv)) != FIDO_OK ||
	    (s = fido_cred_set_extensions(*cred, r->extensions)) != FIDO_OK)
		return s;
	if (r->protection != 0 &&
	    (s = fido_cred_set_prot(*cred, r->protection)) != FIDO_OK)
		return s;
	if (r->blob != NULL &&
	    (s = fido_cred_set_blob(*cred, r->blob, r->blob_len)) != FIDO_OK)
		return s;
	if (r->exclude != NULL &&
	    ((s = fido_cred_exclude(*cred, unknown_id, sizeof(unknown_id))) != FIDO_OK ||
	    (s = fido_cred_exclude(*cred, fido_cred_id_ptr(r->exclude),
	        fido_cred_id_len(r->exclude))) != FIDO_OK))
		return s;
	return fido_dev_make_cred(dev, *cred, r->pin);
}

#define ENROLL(cred, ...) enroll(cred, &(struct registration){ __VA_ARGS__ })

struct sign_in {
	const char *rp;
	const char *pin;
	fido_opt_t up;
	fido_opt_t uv; /* with a PIN: true */
	const fido_cred_t *allow[2];
	bool allow_unknown; /* in front of them */
	int extensions;
	const unsigned char *salt;
	size_t salt_len;
};

static int
sign(fido_assert_t **assert, const struct sign_in *r)
{
	unsigned char hash[32];
	int s;

	fido_assert_free(assert);
	if ((*assert = fido_assert_new()) == NULL ||
	    getrandom(hash, sizeof(hash), 0) != sizeof(hash))
		return FIDO_ERR_INTERNAL;
	if ((s = fido_assert_set_clientdata_hash(*assert, hash, sizeof(hash))) != FIDO_OK ||
	    (s = fido_assert_set_rp(*assert, r->rp)) != FIDO_OK ||
	    (s = fido_assert_set_up(*assert, r->up)) != FIDO_OK ||
	    (s = fido_assert_set_uv(*assert,
	        r->pin != NULL ? FIDO_OPT_TRUE : r->uv)) != FIDO_OK ||
	    (s = fido_assert_set_extensions(*assert, r->extensions)) != FIDO_OK)
		return s;
	if (r->allow_unknown &&
	    (s = fido_assert_allow_cred(*assert, unknown_id, sizeof(unknown_id))) != FIDO_OK)
		return s;
	for (size_t i = 0; i < 2 && r->allow[i] != NULL; i++)
		if ((s = fido_assert_allow_cred(*assert, fido_cred_id_ptr(r->allow[i]),
		    fido_cred_id_len(r->allow[i]))) != FIDO_OK)
			return s;
	if (r->salt != NULL &&
	    (s = fido_assert_set_hmac_salt(*assert, r->salt, r->salt_len)) != FIDO_OK)
		return s;
	return fido_dev_get_assert(dev, *assert, r->pin);
}

#define SIGN(assert, ...) sign(assert, &(struct sign_in){ __VA_ARGS__ })

static bool
same(const void *a, size_t a_len, const void *b, size_t b_len)
{
	return a_len == b_len && a != NULL && b != NULL &&
	    memcmp(a, b, a_len) == 0;
}

static bool
same_string(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/*
 * The relying party's part: it looks the credential up and verifies the
 * assertion with the public key that it was registered with.
 */
static bool
verified(const fido_assert_t *assert, size_t i, const fido_cred_t *cred)
{
	const unsigned char *ptr = fido_cred_pubkey_ptr(cred);
	size_t len = fido_cred_pubkey_len(cred);

	CHECK(i < fido_assert_count(assert));
	CHECK(same(fido_assert_id_ptr(assert, i), fido_assert_id_len(assert, i),
	    fido_cred_id_ptr(cred), fido_cred_id_len(cred)));
	switch (fido_cred_type(cred)) {
#define VERIFY(ALGORITHM, T) \
	case ALGORITHM: { \
		AUTO(T) pk = T##_new(); \
		EXPECT(FIDO_OK, T##_from_ptr(pk, ptr, len)); \
		EXPECT(FIDO_OK, fido_assert_verify(assert, i, ALGORITHM, pk)); \
		return true; \
	}
	VERIFY(COSE_ES256, es256_pk)
	VERIFY(COSE_ES384, es384_pk)
	VERIFY(COSE_EDDSA, eddsa_pk)
	VERIFY(COSE_RS256, rs256_pk)
#undef VERIFY
	}
	return wrong("no such algorithm");
}

#define VERIFIED(assert, i, cred) do { \
	if (!verified(assert, i, cred)) \
		return false; \
} while (0)

/* The steps. */

static bool
open_step(void)
{
	CHECK(open_key());
	CHECK(fido_dev_protocol(dev) == 2);
	CHECK(fido_dev_flags(dev) & FIDO_CAP_CBOR);
	/* Without it, libfido2 took the key for a U2F key. */
	CHECK(fido_dev_is_fido2(dev));
	return true;
}

static bool
open_u2f(void)
{
	CHECK(open_key());
	CHECK(fido_dev_protocol(dev) == 2);
	CHECK((fido_dev_flags(dev) & (FIDO_CAP_CBOR | FIDO_CAP_NMSG)) == 0);
	CHECK(!fido_dev_is_fido2(dev));
	return true;
}

static bool
get_info(void)
{
	AUTO(fido_cbor_info) info = fido_cbor_info_new();

	EXPECT(FIDO_OK, fido_dev_get_cbor_info(dev, info));
	/* A member of the value 0 may as well be absent: libfido2 does not say. */
	fprintf(line, ",\"info\":{\"1\":");
	put_strings(fido_cbor_info_versions_ptr(info),
	    fido_cbor_info_versions_len(info));
	fprintf(line, ",\"2\":");
	put_strings(fido_cbor_info_extensions_ptr(info),
	    fido_cbor_info_extensions_len(info));
	fprintf(line, ",\"3\":");
	put_hex(fido_cbor_info_aaguid_ptr(info), fido_cbor_info_aaguid_len(info));
	fprintf(line, ",\"4\":{");
	for (size_t i = 0; i < fido_cbor_info_options_len(info); i++) {
		if (i > 0)
			fputc(',', line);
		put_string(fido_cbor_info_options_name_ptr(info)[i]);
		fprintf(line, fido_cbor_info_options_value_ptr(info)[i] ?
		    ":true" : ":false");
	}
	fputc('}', line);
	if (fido_cbor_info_protocols_len(info) > 0) {
		fprintf(line, ",\"6\":");
		for (size_t i = 0; i < fido_cbor_info_protocols_len(info); i++)
			fprintf(line, "%c%u", i > 0 ? ',' : '[',
			    fido_cbor_info_protocols_ptr(info)[i]);
		fputc(']', line);
	}
	if (fido_cbor_info_transports_len(info) > 0) {
		fprintf(line, ",\"9\":");
		put_strings(fido_cbor_info_transports_ptr(info),
		    fido_cbor_info_transports_len(info));
	}
	if (fido_cbor_info_algorithm_count(info) > 0) {
		fprintf(line, ",\"10\":");
		for (size_t i = 0; i < fido_cbor_info_algorithm_count(info); i++) {
			fprintf(line, "%c{\"alg\":%d,\"type\":", i > 0 ? ',' : '[',
			    fido_cbor_info_algorithm_cose(info, i));
			put_string(fido_cbor_info_algorithm_type(info, i));
			fputc('}', line);
		}
		fputc(']', line);
	}
	if (fido_cbor_info_new_pin_required(info))
		fprintf(line, ",\"12\":true");
	const struct { int member; uint64_t value; } numbers[] = {
		{ 5, fido_cbor_info_maxmsgsiz(info) },
		{ 7, fido_cbor_info_maxcredcntlst(info) },
		{ 8, fido_cbor_info_maxcredidlen(info) },
		{ 11, fido_cbor_info_maxlargeblob(info) },
		{ 13, fido_cbor_info_minpinlen(info) },
		{ 14, fido_cbor_info_fwversion(info) },
		{ 15, fido_cbor_info_maxcredbloblen(info) },
		{ 16, fido_cbor_info_maxrpid_minpinlen(info) },
		{ 17, fido_cbor_info_uv_attempts(info) },
		{ 18, fido_cbor_info_uv_modality(info) },
		{ 20, (uint64_t)(fido_cbor_info_rk_remaining(info) + 1) },
	};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (numbers[i].value != 0)
			fprintf(line, ",\"%d\":%llu", numbers[i].member,
			    (unsigned long long)numbers[i].value -
			    (numbers[i].member == 20)); /* -1: absent */
	fputc('}', line);
	return true;
}

static bool
set_pin(void)
{
	CHECK(fido_dev_supports_pin(dev));
	CHECK(!fido_dev_has_pin(dev));
	EXPECT(FIDO_OK, fido_dev_set_pin(dev, first_pin, NULL));
	CHECK(retries() == 8);
	CHECK(option("clientPin"));
	/* There is one now, which has to be known in order to be changed. */
	EXPECT(FIDO_ERR_PIN_AUTH_INVALID, fido_dev_set_pin(dev, second_pin, NULL));
	CHECK(retries() == 8);
	return true;
}

/*
 * One account with each algorithm, each at a relying party of its own. The
 * first has to be named or its user verified, the second's user has to be
 * verified in any case, and the others are there for everyone.
 */
static struct account {
	int algorithm;
	char rp[32];
	fido_cred_t *cred;
} accounts[8];
static size_t account_count;

static int
protection(const struct account *a)
{
	switch (a - accounts) {
	case 0:
		return FIDO_CRED_PROT_UV_OPTIONAL_WITH_ID;
	case 1:
		return FIDO_CRED_PROT_UV_REQUIRED;
	}
	return FIDO_CRED_PROT_UV_OPTIONAL;
}

static bool
attested(const fido_cred_t *cred)
{
	/* It does not ask who issued the certificate; the test does. */
	fprintf(line, ",\"attestation\":\"basic\",\"x5c\":");
	put_hex(fido_cred_x5c_ptr(cred), fido_cred_x5c_len(cred));
	EXPECT(FIDO_OK, fido_cred_verify(cred));
	return true;
}

static bool
register_account(struct account *a)
{
	AUTO(fido_cbor_info) info = fido_cbor_info_new();
	int left = room();

	EXPECT(FIDO_OK, fido_dev_get_cbor_info(dev, info));
	EXPECT(FIDO_OK, ENROLL(&a->cred, .algorithm = a->algorithm, .rp = a->rp,
	    .user = "ada", .pin = first_pin, .rk = FIDO_OPT_TRUE,
	    .extensions = FIDO_EXT_HMAC_SECRET,
	    .protection = fido_dev_supports_cred_prot(dev) ? protection(a) : 0));
	CHECK(fido_cred_type(a->cred) == a->algorithm);
	CHECK(fido_cred_flags(a->cred) ==
	    (CTAP_AUTHDATA_USER_PRESENT | CTAP_AUTHDATA_USER_VERIFIED |
	    CTAP_AUTHDATA_ATT_CRED | CTAP_AUTHDATA_EXT_DATA));
	CHECK(same(fido_cred_aaguid_ptr(a->cred), fido_cred_aaguid_len(a->cred),
	    fido_cbor_info_aaguid_ptr(info), fido_cbor_info_aaguid_len(info)));
	CHECK(room() == (left < 0 ? left : left - 1));
	if (same_string(fido_cred_fmt(a->cred), "none")) {
		fprintf(line, ",\"attestation\":\"none\"");
		CHECK(fido_cred_attstmt_len(a->cred) <= 1);
		return true;
	}
	CHECK(same_string(fido_cred_fmt(a->cred), "packed"));
	if (fido_cred_x5c_len(a->cred) == 0) {
		fprintf(line, ",\"attestation\":\"self\"");
		EXPECT(FIDO_OK, fido_cred_verify_self(a->cred));
		return true;
	}
	return attested(a->cred);
}

static bool
sign_in_account(struct account *a)
{
	AUTO(fido_assert) assert = NULL;
	uint32_t count = fido_cred_sigcount(a->cred);

	for (int i = 0; i < 2; i++) {
		EXPECT(FIDO_OK, SIGN(&assert, .rp = a->rp, .pin = first_pin));
		CHECK(fido_assert_count(assert) == 1);
		VERIFIED(assert, 0, a->cred);
		CHECK(fido_assert_flags(assert, 0) ==
		    (CTAP_AUTHDATA_USER_PRESENT | CTAP_AUTHDATA_USER_VERIFIED));
		CHECK(fido_assert_sigcount(assert, 0) > count);
		count = fido_assert_sigcount(assert, 0);
		CHECK(same(fido_assert_user_id_ptr(assert, 0),
		    fido_assert_user_id_len(assert, 0), "ada", 3));
		/* Names are for choosing among several. */
		CHECK(fido_assert_user_name(assert, 0) == NULL);
		CHECK(fido_assert_user_display_name(assert, 0) == NULL);
	}
	return true;
}

static bool
cred_protect(void)
{
	struct account *a = accounts;
	AUTO(fido_assert) assert = NULL;

	for (size_t i = 0; i < account_count; i++)
		CHECK(fido_cred_prot(a[i].cred) == protection(&a[i]));

	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = a[0].rp));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = a[0].rp, .allow = { a[0].cred }));
	VERIFIED(assert, 0, a[0].cred);
	CHECK(fido_assert_flags(assert, 0) == CTAP_AUTHDATA_USER_PRESENT);

	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = a[1].rp));
	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = a[1].rp,
	    .allow = { a[1].cred }));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = a[1].rp, .pin = first_pin,
	    .allow = { a[1].cred }));
	VERIFIED(assert, 0, a[1].cred);

	for (size_t i = 2; i < account_count; i++) {
		EXPECT(FIDO_OK, SIGN(&assert, .rp = a[i].rp));
		VERIFIED(assert, 0, a[i].cred);
	}
	return true;
}

/* The hmac-secret output for a salt, of the first account. */
static bool
hmac_output(unsigned char *output, const unsigned char *salt, size_t n,
    const char *pin)
{
	AUTO(fido_assert) assert = NULL;

	EXPECT(FIDO_OK, SIGN(&assert, .rp = accounts[0].rp, .pin = pin,
	    .allow = { accounts[0].cred }, .extensions = FIDO_EXT_HMAC_SECRET,
	    .salt = salt, .salt_len = n));
	VERIFIED(assert, 0, accounts[0].cred);
	CHECK(fido_assert_flags(assert, 0) & CTAP_AUTHDATA_EXT_DATA);
	CHECK(fido_assert_hmac_secret_len(assert, 0) == n);
	memcpy(output, fido_assert_hmac_secret_ptr(assert, 0), n);
	return true;
}

static bool
hmac_secret(void)
{
	unsigned char salts[64], once[64], twice[64], both[64];

	CHECK(getrandom(salts, sizeof(salts), 0) == sizeof(salts));
	for (int uv = 0; uv <= 1; uv++) {
		const char *pin = uv ? first_pin : NULL;
		if (!hmac_output(once, salts, 32, pin) ||
		    !hmac_output(once + 32, salts + 32, 32, pin) ||
		    !hmac_output(twice, salts, 32, pin) ||
		    !hmac_output(twice + 32, salts + 32, 32, pin))
			return false;
		CHECK(memcmp(once, twice, 64) == 0);
		CHECK(memcmp(once, once + 32, 32) != 0);
		if (uv) /* another secret than without */
			CHECK(memcmp(once, both, 32) != 0);
		if (!hmac_output(both, salts, 64, pin))
			return false;
		CHECK(memcmp(once, both, 64) == 0);
	}
	return true;
}

static bool
wrong_pin_step(void)
{
	const struct account *a = accounts;
	AUTO(fido_assert) assert = NULL;

	CHECK(retries() == 8);
	EXPECT(FIDO_ERR_PIN_INVALID, SIGN(&assert, .rp = a->rp, .pin = wrong_pin));
	CHECK(retries() == 7);
	EXPECT(FIDO_OK, SIGN(&assert, .rp = a->rp, .pin = first_pin));
	VERIFIED(assert, 0, a->cred);
	CHECK(retries() == 8);
	return true;
}

static bool
pin_auth_blocked(void)
{
	const struct account *a = accounts;
	AUTO(fido_cred) cred = NULL;
	AUTO(fido_assert) assert = NULL;

	EXPECT(FIDO_ERR_PIN_INVALID, SIGN(&assert, .rp = a->rp, .pin = wrong_pin));
	CHECK(retries() == 7);
	EXPECT(FIDO_ERR_PIN_INVALID, fido_dev_set_pin(dev, second_pin, wrong_pin));
	CHECK(retries() == 6);
	EXPECT(FIDO_ERR_PIN_AUTH_BLOCKED, ENROLL(&cred, .rp = a->rp,
	    .user = "eve", .pin = wrong_pin));
	CHECK(retries() == 5);

	/* Now the right one does not help, and costs nothing. */
	EXPECT(FIDO_ERR_PIN_AUTH_BLOCKED, SIGN(&assert, .rp = a->rp, .pin = first_pin));
	CHECK(retries() == 5);
	EXPECT(FIDO_OK, fido_dev_close(dev));
	CHECK(open_key());
	EXPECT(FIDO_ERR_PIN_AUTH_BLOCKED, SIGN(&assert, .rp = a->rp, .pin = first_pin));

	if (!power_cycle())
		return false;
	CHECK(retries() == 5);
	EXPECT(FIDO_OK, SIGN(&assert, .rp = a->rp, .pin = first_pin));
	VERIFIED(assert, 0, a->cred);
	CHECK(retries() == 8);
	return true;
}

/* Three accounts at one relying party, oldest first. */
static const char several[] = "several.example.com";
static const char *users[] = { "ada", "grace", "mary" };
static fido_cred_t *several_creds[3];

static bool
three_accounts(void)
{
	AUTO(fido_cred) again = NULL;
	AUTO(fido_assert) assert = NULL;
	int left = room();

	for (int i = 0; i < 3; i++) {
		EXPECT(FIDO_OK, ENROLL(&several_creds[i], .rp = several,
		    .algorithm = i == 1 ? COSE_EDDSA : COSE_ES256,
		    .user = users[i], .pin = first_pin, .rk = FIDO_OPT_TRUE));
	}
	CHECK(room() == (left < 0 ? left : left - 3));

	for (int uv = 0; uv <= 1; uv++) {
		EXPECT(FIDO_OK, SIGN(&assert, .rp = several,
		    .pin = uv ? first_pin : NULL));
		CHECK(fido_assert_count(assert) == 3);
		for (size_t i = 0; i < 3; i++) {
			const fido_cred_t *cred = several_creds[2 - i];
			const char *name = fido_assert_user_name(assert, i);
			const char *display = fido_assert_user_display_name(assert, i);

			VERIFIED(assert, i, cred);
			CHECK(same(fido_assert_user_id_ptr(assert, i),
			    fido_assert_user_id_len(assert, i),
			    users[2 - i], strlen(users[2 - i])));
			if (uv) {
				CHECK(same_string(name, fido_cred_user_name(cred)));
				CHECK(same_string(display, fido_cred_display_name(cred)));
			} else {
				CHECK(name == NULL);
				CHECK(display == NULL);
			}
		}
	}

	/* A new credential for the same account takes the place of the old. */
	EXPECT(FIDO_OK, ENROLL(&again, .rp = several, .user = users[0],
	    .pin = first_pin, .rk = FIDO_OPT_TRUE));
	CHECK(room() == (left < 0 ? left : left - 3));
	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = several,
	    .pin = first_pin, .allow = { several_creds[0] }));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = several, .pin = first_pin));
	CHECK(fido_assert_count(assert) == 3);
	VERIFIED(assert, 0, again);
	VERIFIED(assert, 1, several_creds[2]);
	VERIFIED(assert, 2, several_creds[1]);
	fido_cred_free(&several_creds[0]);
	several_creds[0] = again;
	again = NULL;
	return true;
}

static bool
change_pin(void)
{
	const struct account *a = accounts;
	AUTO(fido_assert) assert = NULL;

	EXPECT(FIDO_OK, fido_dev_set_pin(dev, second_pin, first_pin));
	CHECK(retries() == 8);
	EXPECT(FIDO_ERR_PIN_INVALID, SIGN(&assert, .rp = a->rp, .pin = first_pin));
	CHECK(retries() == 7);
	EXPECT(FIDO_OK, SIGN(&assert, .rp = a->rp, .pin = second_pin));
	VERIFIED(assert, 0, a->cred);
	CHECK(retries() == 8);
	EXPECT(FIDO_OK, fido_dev_set_pin(dev, first_pin, second_pin));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = a->rp, .pin = first_pin));
	return true;
}

/* A credential that is not discoverable. */
static const char listed[] = "listed.example.com";
static fido_cred_t *listed_cred;

static bool
exclude_list(void)
{
	AUTO(fido_cred) cred = NULL;
	int left = room();

	EXPECT(FIDO_OK, ENROLL(&listed_cred, .rp = listed, .user = "ada",
	    .pin = first_pin));
	CHECK(room() == left);
	EXPECT(FIDO_ERR_CREDENTIAL_EXCLUDED, ENROLL(&cred, .rp = listed,
	    .user = "ada", .pin = first_pin, .exclude = listed_cred));
	EXPECT(FIDO_ERR_CREDENTIAL_EXCLUDED, ENROLL(&cred, .rp = several,
	    .user = "ada", .pin = first_pin, .exclude = several_creds[1]));
	/* It is nothing to another relying party. */
	EXPECT(FIDO_OK, ENROLL(&cred, .rp = several, .user = "ada",
	    .pin = first_pin, .exclude = listed_cred));
	/*
	 * A key with a PIN asks for it, as all did in CTAP 2.0, unless it says
	 * otherwise of credentials that are not discoverable.
	 */
	if (!option("makeCredUvNotRqd")) {
		EXPECT(FIDO_ERR_PIN_REQUIRED, ENROLL(&cred, .rp = listed,
		    .user = "ada"));
		return true;
	}
	EXPECT(FIDO_OK, ENROLL(&cred, .rp = listed, .user = "ada"));
	CHECK(fido_cred_flags(cred) ==
	    (CTAP_AUTHDATA_USER_PRESENT | CTAP_AUTHDATA_ATT_CRED));
	EXPECT(FIDO_ERR_CREDENTIAL_EXCLUDED, ENROLL(&cred, .rp = listed,
	    .user = "ada", .exclude = listed_cred));
	EXPECT(FIDO_ERR_PIN_REQUIRED, ENROLL(&cred, .rp = listed, .user = "ada",
	    .rk = FIDO_OPT_TRUE));
	return true;
}

static bool
allow_list(void)
{
	AUTO(fido_assert) assert = NULL;

	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = listed,
	    .pin = first_pin));
	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = listed,
	    .pin = first_pin, .allow_unknown = true));
	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = several,
	    .pin = first_pin, .allow = { listed_cred }));
	for (int uv = 0; uv <= 1; uv++) {
		EXPECT(FIDO_OK, SIGN(&assert, .rp = listed,
		    .pin = uv ? first_pin : NULL, .allow_unknown = true,
		    .allow = { listed_cred }));
		CHECK(fido_assert_count(assert) == 1);
		VERIFIED(assert, 0, listed_cred);
	}
	/* Of several that match, one is used. */
	EXPECT(FIDO_OK, SIGN(&assert, .rp = several, .pin = first_pin,
	    .allow_unknown = true,
	    .allow = { several_creds[1], several_creds[2] }));
	CHECK(fido_assert_count(assert) == 1);
	VERIFIED(assert, 0, several_creds[1]);
	return true;
}

static bool
without_touch(void)
{
	static const unsigned char salt[32];
	AUTO(fido_assert) assert = NULL;
	unsigned before = touch_needed;

	EXPECT(FIDO_OK, SIGN(&assert, .rp = listed, .up = FIDO_OPT_FALSE,
	    .allow_unknown = true, .allow = { listed_cred }));
	VERIFIED(assert, 0, listed_cred);
	CHECK(fido_assert_flags(assert, 0) == 0);
	EXPECT(FIDO_OK, SIGN(&assert, .rp = listed, .up = FIDO_OPT_FALSE,
	    .pin = first_pin, .allow = { listed_cred }));
	VERIFIED(assert, 0, listed_cred);
	CHECK(fido_assert_flags(assert, 0) == CTAP_AUTHDATA_USER_VERIFIED);
	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = listed,
	    .up = FIDO_OPT_FALSE, .allow_unknown = true));
	/* §12.7: no secret without a touch. */
	EXPECT(FIDO_ERR_UNSUPPORTED_OPTION, SIGN(&assert, .rp = listed,
	    .up = FIDO_OPT_FALSE, .allow = { listed_cred },
	    .extensions = FIDO_EXT_HMAC_SECRET,
	    .salt = salt, .salt_len = sizeof(salt)));
	CHECK(touch_needed == before);
	return true;
}

/* "Touch the key that you want": a pinUvAuthParam of no length. */
static bool
selection(void)
{
	unsigned before = touch_needed;
	int touched = 0;

	EXPECT(FIDO_OK, fido_dev_get_touch_begin(dev));
	EXPECT(FIDO_OK, fido_dev_get_touch_status(dev, &touched, 20000));
	CHECK(touched);
	CHECK(touch_needed > before);
	return true;
}

static bool
cancel(void)
{
	const struct account *a = accounts;
	AUTO(fido_cred) cred = NULL;
	AUTO(fido_assert) assert = NULL;
	int left = room();

	CHECK(ask("ignore"));
	cancel_when_touch_needed = true;
	EXPECT(FIDO_ERR_KEEPALIVE_CANCEL, ENROLL(&cred, .rp = "cancelled.example.com",
	    .user = "ada", .pin = first_pin, .rk = FIDO_OPT_TRUE));
	CHECK(!cancel_when_touch_needed);
	CHECK(room() == left);
	cancel_when_touch_needed = true;
	EXPECT(FIDO_ERR_KEEPALIVE_CANCEL, SIGN(&assert, .rp = a->rp, .pin = first_pin));
	CHECK(!cancel_when_touch_needed);
	/* Nothing is under way, so that nothing happens. */
	EXPECT(FIDO_OK, fido_dev_cancel(dev));
	CHECK(ask("touch"));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = a->rp, .pin = first_pin));
	VERIFIED(assert, 0, a->cred);
	return true;
}

/* The key's own user verification, a fingerprint say, in place of the PIN. */
static bool
built_in_uv(void)
{
	static const char rp[] = "finger.example.com";
	AUTO(fido_cred) cred = NULL;
	AUTO(fido_assert) assert = NULL;
	int left = 0, n = 0;

	EXPECT(FIDO_OK, fido_dev_get_uv_retry_count(dev, &left));
	CHECK(left > 0);
	EXPECT(FIDO_OK, ENROLL(&cred, .rp = rp, .user = "ada",
	    .rk = FIDO_OPT_TRUE, .uv = FIDO_OPT_TRUE));
	CHECK(fido_cred_flags(cred) & CTAP_AUTHDATA_USER_VERIFIED);
	EXPECT(FIDO_OK, SIGN(&assert, .rp = rp, .uv = FIDO_OPT_TRUE));
	VERIFIED(assert, 0, cred);
	CHECK(fido_assert_flags(assert, 0) ==
	    (CTAP_AUTHDATA_USER_PRESENT | CTAP_AUTHDATA_USER_VERIFIED));

	CHECK(ask("wrong finger"));
	/* Without permissions there is no token but for the PIN. */
	if (fido_dev_supports_permissions(dev))
		EXPECT(FIDO_ERR_UV_INVALID, SIGN(&assert, .rp = rp,
		    .uv = FIDO_OPT_TRUE));
	else
		EXPECT(FIDO_ERR_PIN_REQUIRED, SIGN(&assert, .rp = rp,
		    .uv = FIDO_OPT_TRUE));
	EXPECT(FIDO_OK, fido_dev_get_uv_retry_count(dev, &n));
	CHECK(n < left);
	CHECK(ask("right finger"));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = rp, .uv = FIDO_OPT_TRUE));
	VERIFIED(assert, 0, cred);
	EXPECT(FIDO_OK, fido_dev_get_uv_retry_count(dev, &n));
	CHECK(n == left);
	return true;
}

/* A credential and its account as the key lists them. */
static bool
listed_as(const fido_credman_rk_t *rks, const fido_cred_t *cred,
    const char *name, const char *display)
{
	for (size_t i = 0; i < fido_credman_rk_count(rks); i++) {
		const fido_cred_t *rk = fido_credman_rk(rks, i);

		if (!same(fido_cred_id_ptr(rk), fido_cred_id_len(rk),
		    fido_cred_id_ptr(cred), fido_cred_id_len(cred)))
			continue;
		CHECK(same(fido_cred_user_id_ptr(rk), fido_cred_user_id_len(rk),
		    fido_cred_user_id_ptr(cred), fido_cred_user_id_len(cred)));
		CHECK(same_string(fido_cred_user_name(rk), name));
		CHECK(same_string(fido_cred_display_name(rk), display));
		CHECK(fido_cred_type(rk) == fido_cred_type(cred));
		CHECK(same(fido_cred_pubkey_ptr(rk), fido_cred_pubkey_len(rk),
		    fido_cred_pubkey_ptr(cred), fido_cred_pubkey_len(cred)));
		CHECK(fido_cred_prot(rk) == (fido_cred_prot(cred) != 0 ?
		    fido_cred_prot(cred) : FIDO_CRED_PROT_UV_OPTIONAL));
		return true;
	}
	return wrong("not listed");
}

#define LISTED_AS(rks, cred, name, display) do { \
	if (!listed_as(rks, cred, name, display)) \
		return false; \
} while (0)

/* What the key keeps is listed, renamed and deleted. */
static bool
credential_management(void)
{
	AUTO(fido_credman_metadata) metadata = fido_credman_metadata_new();
	AUTO(fido_credman_rp) rps = fido_credman_rp_new();
	AUTO(fido_credman_rk) rks = fido_credman_rk_new();
	AUTO(fido_cred) renamed = fido_cred_new();
	AUTO(fido_assert) assert = NULL;
	const fido_cred_t *cred = several_creds[1];
	uint64_t existing, remaining;
	unsigned seen = 0;

	EXPECT(FIDO_ERR_PIN_INVALID,
	    fido_credman_get_dev_metadata(dev, metadata, wrong_pin));
	EXPECT(FIDO_OK, fido_credman_get_dev_metadata(dev, metadata, first_pin));
	existing = fido_credman_rk_existing(metadata);
	remaining = fido_credman_rk_remaining(metadata);
	CHECK(existing == account_count + 3);
	CHECK(room() < 0 || remaining == (uint64_t)room());

	EXPECT(FIDO_OK, fido_credman_get_dev_rp(dev, rps, first_pin));
	CHECK(fido_credman_rp_count(rps) == account_count + 1);
	for (size_t i = 0; i <= account_count; i++)
		for (size_t j = 0; j <= account_count; j++) {
			const char *rp = j < account_count ? accounts[j].rp : several;
			const fido_cred_t *of = j < account_count ?
			    accounts[j].cred : several_creds[0];

			if (!same_string(fido_credman_rp_id(rps, i), rp))
				continue;
			/* Authenticator data begins with it. */
			CHECK(same(fido_credman_rp_id_hash_ptr(rps, i),
			    fido_credman_rp_id_hash_len(rps, i),
			    fido_cred_authdata_raw_ptr(of), 32));
			seen |= 1U << j;
		}
	CHECK(seen == (1U << (account_count + 1)) - 1);

	for (size_t i = 0; i < account_count; i++) {
		const struct account *a = &accounts[i];

		EXPECT(FIDO_OK, fido_credman_get_dev_rk(dev, a->rp, rks, first_pin));
		CHECK(fido_credman_rk_count(rks) == 1);
		LISTED_AS(rks, a->cred, "ada@example.com", "ada Ångström");
	}
	EXPECT(FIDO_ERR_NO_CREDENTIALS,
	    fido_credman_get_dev_rk(dev, "empty.example.com", rks, first_pin));
	EXPECT(FIDO_OK, fido_credman_get_dev_rk(dev, several, rks, first_pin));
	CHECK(fido_credman_rk_count(rks) == 3);
	LISTED_AS(rks, several_creds[0], "ada@example.com", "ada Ångström");
	LISTED_AS(rks, several_creds[1], "grace@example.com", "grace Ångström");
	LISTED_AS(rks, several_creds[2], "mary@example.com", "mary Ångström");

	/* The prototype alone cannot rename. */
	EXPECT(FIDO_OK, fido_cred_set_id(renamed, fido_cred_id_ptr(cred),
	    fido_cred_id_len(cred)));
	EXPECT(FIDO_OK, fido_cred_set_user(renamed, fido_cred_user_id_ptr(cred),
	    fido_cred_user_id_len(cred), "hopper@example.com", "Grace Hopper", NULL));
	if (option("credMgmt")) {
		EXPECT(FIDO_OK, fido_credman_set_dev_rk(dev, renamed, first_pin));
		EXPECT(FIDO_OK, fido_credman_get_dev_rk(dev, several, rks, first_pin));
		LISTED_AS(rks, cred, "hopper@example.com", "Grace Hopper");
		LISTED_AS(rks, several_creds[2], "mary@example.com", "mary Ångström");
	} else {
		EXPECT(FIDO_ERR_INVALID_PARAMETER,
		    fido_credman_set_dev_rk(dev, renamed, first_pin));
	}

	EXPECT(FIDO_OK, fido_credman_del_dev_rk(dev, fido_cred_id_ptr(cred),
	    fido_cred_id_len(cred), first_pin));
	EXPECT(FIDO_ERR_NO_CREDENTIALS, fido_credman_del_dev_rk(dev,
	    fido_cred_id_ptr(cred), fido_cred_id_len(cred), first_pin));
	EXPECT(FIDO_OK, fido_credman_get_dev_rk(dev, several, rks, first_pin));
	CHECK(fido_credman_rk_count(rks) == 2);
	LISTED_AS(rks, several_creds[2], "mary@example.com", "mary Ångström");
	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = several,
	    .pin = first_pin, .allow = { cred }));
	EXPECT(FIDO_OK, fido_credman_get_dev_metadata(dev, metadata, first_pin));
	CHECK(fido_credman_rk_existing(metadata) == existing - 1);
	CHECK(fido_credman_rk_remaining(metadata) == remaining + 1);
	return true;
}

/* The fingerprints of the key by their names, NULL where they have none. */
static bool
enrolled(const char *a, const char *b)
{
	AUTO(fido_bio_template_array) templates = fido_bio_template_array_new();
	const char *want[] = { a, b };

	EXPECT(FIDO_OK, fido_bio_dev_get_template_array(dev, templates, first_pin));
	CHECK(fido_bio_template_array_count(templates) == 2);
	for (size_t i = 0; i < 2; i++) {
		const char *name =
		    fido_bio_template_name(fido_bio_template(templates, i));

		CHECK(name == want[i] || same_string(name, want[i]));
	}
	return true;
}

/* Of the samples of a clumsy finger the first is no good. */
static bool
enroll_finger(fido_bio_template_t *template, uint8_t samples, bool clumsy)
{
	AUTO(fido_bio_enroll) enroll = fido_bio_enroll_new();

	CHECK(!clumsy || ask("clumsy finger"));
	EXPECT(FIDO_OK, fido_bio_dev_enroll_begin(dev, template, enroll, 10000,
	    first_pin));
	if (clumsy) {
		CHECK(fido_bio_enroll_last_status(enroll) ==
		    FIDO_BIO_ENROLL_FP_TOO_FAST);
		CHECK(fido_bio_enroll_remaining_samples(enroll) == samples);
	}
	for (int left = clumsy ? samples : samples - 1; left > 0; left--) {
		EXPECT(FIDO_OK, fido_bio_dev_enroll_continue(dev, template,
		    enroll, 10000));
		CHECK(fido_bio_enroll_last_status(enroll) ==
		    FIDO_BIO_ENROLL_FP_GOOD);
		CHECK(fido_bio_enroll_remaining_samples(enroll) == left - 1);
	}
	CHECK(fido_bio_enroll_remaining_samples(enroll) == 0);
	return true;
}

/* The key comes with one finger enrolled, and has one when this is over. */
static bool
fingerprints(void)
{
	AUTO(fido_bio_info) info = fido_bio_info_new();
	AUTO(fido_bio_template_array) templates = fido_bio_template_array_new();
	AUTO(fido_bio_template) thumb = fido_bio_template_new();
	AUTO(fido_bio_template) given_up = fido_bio_template_new();
	AUTO(fido_bio_template) last = fido_bio_template_new();
	AUTO(fido_bio_enroll) enroll = fido_bio_enroll_new();
	const fido_bio_template_t *first;
	uint8_t samples;

	EXPECT(FIDO_OK, fido_bio_dev_get_info(dev, info));
	CHECK(fido_bio_info_type(info) == 1); /* touch */
	samples = fido_bio_info_max_samples(info);
	CHECK(samples > 1);
	EXPECT(FIDO_ERR_PIN_INVALID,
	    fido_bio_dev_get_template_array(dev, templates, wrong_pin));
	EXPECT(FIDO_OK,
	    fido_bio_dev_get_template_array(dev, templates, first_pin));
	CHECK(fido_bio_template_array_count(templates) == 1);
	first = fido_bio_template(templates, 0);

	if (!enroll_finger(thumb, samples, true) || !enrolled(NULL, NULL))
		return false;
	EXPECT(FIDO_OK, fido_bio_template_set_name(thumb, "left thumb"));
	EXPECT(FIDO_OK, fido_bio_dev_set_template_name(dev, thumb, first_pin));
	if (!enrolled(NULL, "left thumb"))
		return false;

	EXPECT(FIDO_OK, fido_bio_dev_enroll_begin(dev, given_up, enroll, 10000,
	    first_pin));
	EXPECT(FIDO_OK, fido_bio_dev_enroll_cancel(dev));
	EXPECT(FIDO_ERR_INVALID_OPTION,
	    fido_bio_dev_enroll_continue(dev, given_up, enroll, 10000));
	if (!enrolled(NULL, "left thumb"))
		return false;

	/* Without any it cannot verify its user. */
	EXPECT(FIDO_OK, fido_bio_dev_enroll_remove(dev, first, first_pin));
	EXPECT(FIDO_ERR_INVALID_OPTION,
	    fido_bio_dev_enroll_remove(dev, first, first_pin));
	CHECK(option("uv"));
	EXPECT(FIDO_OK, fido_bio_dev_enroll_remove(dev, thumb, first_pin));
	CHECK(!option("uv"));
	EXPECT(FIDO_ERR_INVALID_OPTION,
	    fido_bio_dev_get_template_array(dev, templates, first_pin));
	if (!enroll_finger(last, samples, false))
		return false;
	CHECK(option("uv"));
	return true;
}

static bool
blob_is(const fido_cred_t *cred, const unsigned char *want, size_t n)
{
	unsigned char *blob = NULL;
	size_t len = 0;
	bool is;

	EXPECT(FIDO_OK, fido_dev_largeblob_get(dev, fido_cred_largeblob_key_ptr(cred),
	    fido_cred_largeblob_key_len(cred), &blob, &len));
	is = same(blob, len, want, n);
	free(blob);
	CHECK(is);
	return true;
}

static int
set_blob(const fido_cred_t *cred, const unsigned char *blob, size_t n)
{
	return fido_dev_largeblob_set(dev, fido_cred_largeblob_key_ptr(cred),
	    fido_cred_largeblob_key_len(cred), blob, n, first_pin);
}

static bool
large_blobs(void)
{
	static const char rp[] = "blob.example.com";
	static unsigned char noise[3000], zeros[100000];
	AUTO(fido_cred) a = NULL;
	AUTO(fido_cred) b = NULL;
	AUTO(fido_assert) assert = NULL;
	unsigned char *blob = NULL;
	size_t len;

	CHECK(getrandom(noise, sizeof(noise), 0) == sizeof(noise));
	EXPECT(FIDO_OK, ENROLL(&a, .rp = rp, .user = "ada", .pin = first_pin,
	    .rk = FIDO_OPT_TRUE, .extensions = FIDO_EXT_LARGEBLOB_KEY));
	EXPECT(FIDO_OK, ENROLL(&b, .rp = rp, .user = "bob", .pin = first_pin,
	    .rk = FIDO_OPT_TRUE, .extensions = FIDO_EXT_LARGEBLOB_KEY));
	CHECK(fido_cred_largeblob_key_len(a) == 32);
	CHECK(!same(fido_cred_largeblob_key_ptr(a), 32, fido_cred_largeblob_key_ptr(b), 32));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = rp, .allow = { a },
	    .extensions = FIDO_EXT_LARGEBLOB_KEY));
	VERIFIED(assert, 0, a);
	CHECK(same(fido_assert_largeblob_key_ptr(assert, 0),
	    fido_assert_largeblob_key_len(assert, 0),
	    fido_cred_largeblob_key_ptr(a), fido_cred_largeblob_key_len(a)));

	EXPECT(FIDO_ERR_NOTFOUND, fido_dev_largeblob_get(dev,
	    fido_cred_largeblob_key_ptr(a), 32, &blob, &len));
	EXPECT(FIDO_OK, set_blob(a, noise, sizeof(noise)));
	EXPECT(FIDO_OK, set_blob(b, zeros, sizeof(zeros)));
	if (!blob_is(a, noise, sizeof(noise)) || !blob_is(b, zeros, sizeof(zeros)))
		return false;
	EXPECT(FIDO_ERR_LARGEBLOB_STORAGE_FULL, set_blob(b, noise, sizeof(noise)));
	EXPECT(FIDO_OK, set_blob(a, noise, 100));
	EXPECT(FIDO_OK, set_blob(b, noise, sizeof(noise)));
	if (!blob_is(a, noise, 100) || !blob_is(b, noise, sizeof(noise)))
		return false;
	EXPECT(FIDO_OK, fido_dev_largeblob_remove(dev, fido_cred_largeblob_key_ptr(a), 32,
	    first_pin));
	EXPECT(FIDO_ERR_NOTFOUND, fido_dev_largeblob_get(dev,
	    fido_cred_largeblob_key_ptr(a), 32, &blob, &len));
	return blob_is(b, noise, sizeof(noise));
}

static bool
cred_blob(void)
{
	static const char rp[] = "credblob.example.com";
	unsigned char blob[32];
	AUTO(fido_cred) cred = NULL;
	AUTO(fido_assert) assert = NULL;

	CHECK(getrandom(blob, sizeof(blob), 0) == sizeof(blob));
	EXPECT(FIDO_OK, ENROLL(&cred, .rp = rp, .user = "ada", .pin = first_pin,
	    .rk = FIDO_OPT_TRUE, .extensions = FIDO_EXT_CRED_BLOB,
	    .blob = blob, .blob_len = sizeof(blob)));
	CHECK(fido_cred_flags(cred) & CTAP_AUTHDATA_EXT_DATA);
	EXPECT(FIDO_OK, SIGN(&assert, .rp = rp, .extensions = FIDO_EXT_CRED_BLOB));
	VERIFIED(assert, 0, cred);
	CHECK(same(fido_assert_blob_ptr(assert, 0), fido_assert_blob_len(assert, 0),
	    blob, sizeof(blob)));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = rp));
	CHECK(fido_assert_blob_len(assert, 0) == 0);
	return true;
}

/* Whether authenticator data ends with {"minPinLength": n}. */
static bool
told_min_pin_length(const fido_cred_t *cred, uint64_t n)
{
	unsigned char want[] = "\xa1\x6c" "minPinLength\0";
	const unsigned char *data = fido_cred_authdata_raw_ptr(cred);
	size_t len = fido_cred_authdata_raw_len(cred);

	want[sizeof(want) - 2] = (unsigned char)n;
	CHECK(fido_cred_flags(cred) & CTAP_AUTHDATA_EXT_DATA);
	CHECK(len > sizeof(want) - 1);
	CHECK(memcmp(data + len - (sizeof(want) - 1), want,
	    sizeof(want) - 1) == 0);
	return true;
}

static uint64_t min_pin_length; /* of the key as it came */

/* The PIN is another one when this is over. */
static bool
config(void)
{
	static const char told[] = "told.example.com";
	const char *rps[] = { told };
	AUTO(fido_cred) cred = NULL;
	AUTO(fido_assert) assert = NULL;

	min_pin_length = number(fido_cbor_info_minpinlen);
	CHECK(!option("alwaysUv"));
	EXPECT(FIDO_OK, fido_dev_toggle_always_uv(dev, first_pin));
	CHECK(option("alwaysUv"));
	if (!fido_dev_has_uv(dev))
		EXPECT(FIDO_ERR_PIN_REQUIRED, SIGN(&assert, .rp = listed,
		    .allow = { listed_cred }));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = listed, .pin = first_pin,
	    .allow = { listed_cred }));
	EXPECT(FIDO_OK, fido_dev_toggle_always_uv(dev, first_pin));
	CHECK(!option("alwaysUv"));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = listed, .allow = { listed_cred }));

	EXPECT(FIDO_OK, fido_dev_set_pin_minlen_rpid(dev, rps, 1, first_pin));
	EXPECT(FIDO_OK, ENROLL(&cred, .rp = told, .user = "ada",
	    .pin = first_pin, .extensions = FIDO_EXT_MINPINLEN));
	if (!told_min_pin_length(cred, min_pin_length))
		return false;
	EXPECT(FIDO_OK, ENROLL(&cred, .rp = "untold.example.com", .user = "ada",
	    .pin = first_pin, .extensions = FIDO_EXT_MINPINLEN));
	CHECK((fido_cred_flags(cred) & CTAP_AUTHDATA_EXT_DATA) == 0);

	/* Longer than the PIN that there is. */
	EXPECT(FIDO_OK, fido_dev_set_pin_minlen(dev, 7, first_pin));
	CHECK(number(fido_cbor_info_minpinlen) == 7);
	CHECK(new_pin_required());
	EXPECT(FIDO_ERR_PIN_POLICY_VIOLATION, SIGN(&assert, .rp = listed,
	    .pin = first_pin, .allow = { listed_cred }));
	EXPECT(FIDO_ERR_PIN_POLICY_VIOLATION, fido_dev_set_pin(dev, "161803", first_pin));
	EXPECT(FIDO_OK, fido_dev_set_pin(dev, second_pin, first_pin));
	CHECK(!new_pin_required());
	EXPECT(FIDO_ERR_PIN_POLICY_VIOLATION, fido_dev_set_pin_minlen(dev, 6, second_pin));
	EXPECT(FIDO_OK, ENROLL(&cred, .rp = told, .user = "ada",
	    .pin = second_pin, .extensions = FIDO_EXT_MINPINLEN));
	if (!told_min_pin_length(cred, 7))
		return false;

	EXPECT(FIDO_OK, fido_dev_force_pin_change(dev, second_pin));
	CHECK(new_pin_required());
	EXPECT(FIDO_ERR_PIN_POLICY_VIOLATION, fido_dev_set_pin(dev, second_pin, second_pin));
	EXPECT(FIDO_OK, fido_dev_set_pin(dev, third_pin, second_pin));
	CHECK(!new_pin_required());
	EXPECT(FIDO_OK, SIGN(&assert, .rp = listed, .pin = third_pin,
	    .allow = { listed_cred }));
	VERIFIED(assert, 0, listed_cred);
	return true;
}

static bool
enterprise_attestation(void)
{
	CHECK(!option("ep"));
	EXPECT(FIDO_OK, fido_dev_enable_entattest(dev, first_pin));
	CHECK(option("ep"));
	return true;
}

/* By U2F_REGISTER and U2F_AUTHENTICATE, whatever else the key speaks. */
static bool
u2f(void)
{
	static const char rp[] = "u2f.example.com";
	bool fido2 = fido_dev_is_fido2(dev);
	AUTO(fido_cred) cred = NULL;
	AUTO(fido_cred) again = NULL;
	AUTO(fido_assert) assert = NULL;
	uint32_t count;

	fido_dev_force_u2f(dev);
	EXPECT(FIDO_OK, ENROLL(&cred, .rp = rp, .user = "ada"));
	CHECK(same_string(fido_cred_fmt(cred), "fido-u2f"));
	if (!attested(cred))
		return false;
	EXPECT(FIDO_ERR_CREDENTIAL_EXCLUDED, ENROLL(&again, .rp = rp,
	    .user = "ada", .exclude = cred));
	EXPECT(FIDO_OK, ENROLL(&again, .rp = rp, .user = "ada"));
	count = fido_cred_sigcount(cred);
	for (int i = 0; i < 2; i++) {
		EXPECT(FIDO_OK, SIGN(&assert, .rp = rp, .allow = { cred }));
		VERIFIED(assert, 0, cred);
		CHECK(fido_assert_flags(assert, 0) == CTAP_AUTHDATA_USER_PRESENT);
		CHECK(fido_assert_sigcount(assert, 0) > count);
		count = fido_assert_sigcount(assert, 0);
	}
	/* Only asked whether it is there. */
	EXPECT(FIDO_ERR_USER_PRESENCE_REQUIRED, SIGN(&assert, .rp = rp,
	    .up = FIDO_OPT_FALSE, .allow = { cred }));
	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = "other.example.com",
	    .allow = { cred }));
	if (!fido2)
		return true;

	/* Either protocol signs in with what the other has made. */
	EXPECT(FIDO_OK, SIGN(&assert, .rp = listed, .allow = { listed_cred }));
	VERIFIED(assert, 0, listed_cred);
	EXPECT(FIDO_OK, fido_dev_close(dev));
	CHECK(open_key());
	EXPECT(FIDO_OK, SIGN(&assert, .rp = rp, .pin = first_pin, .allow = { cred }));
	VERIFIED(assert, 0, cred);
	CHECK(fido_assert_sigcount(assert, 0) > count);
	return true;
}

static bool
reset(void)
{
	struct account *a = accounts;
	AUTO(fido_assert) assert = NULL;

	/* A reset is for the first seconds after power-up. */
	if (!power_cycle())
		return false;
	EXPECT(FIDO_OK, fido_dev_reset(dev));
	EXPECT(FIDO_OK, fido_dev_close(dev));
	CHECK(open_key());
	CHECK(!fido_dev_has_pin(dev));
	CHECK(retries() == 8);
	CHECK(min_pin_length == 0 || number(fido_cbor_info_minpinlen) == min_pin_length);
	CHECK(!option("ep"));
	EXPECT(FIDO_ERR_PIN_NOT_SET, SIGN(&assert, .rp = a->rp, .pin = first_pin));
	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = several));
	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = several,
	    .allow = { several_creds[1] }));
	EXPECT(FIDO_ERR_NO_CREDENTIALS, SIGN(&assert, .rp = listed,
	    .allow = { listed_cred }));
	EXPECT(FIDO_OK, fido_dev_set_pin(dev, second_pin, NULL));
	EXPECT(FIDO_OK, ENROLL(&a->cred, .rp = a->rp, .user = "ada",
	    .pin = second_pin, .rk = FIDO_OPT_TRUE));
	EXPECT(FIDO_OK, SIGN(&assert, .rp = a->rp, .pin = second_pin));
	VERIFIED(assert, 0, a->cred);
	return true;
}

/* A step adds to its line what the test is to look at. */

static char *text;
static size_t text_size;

static void
begin(const char *name, const struct account *a)
{
	line = open_memstream(&text, &text_size);
	fprintf(line, "{\"step\":\"%s", name);
	if (a != NULL)
		fprintf(line, " %d", a->algorithm);
	fputc('"', line);
}

static void
end(bool well)
{
	if (!well) {
		fprintf(line, ",\"error\":");
		put_string(problem);
	}
	fputc('}', line);
	fclose(line);
	puts(text);
	fflush(stdout);
	free(text);
}

#define STEP(name, account, call) do { \
	begin(name, account); \
	end(call); \
} while (0)

int
main(int argc, char **argv)
{
	static const fido_dev_io_t io = { io_open, io_close, io_read, io_write };
	bool enterprise;

	if (argc < 2 || argc == 3 || argc - 2 > (int)(sizeof(accounts) / sizeof(accounts[0]))) {
		fprintf(stderr, "usage: libfido2 SOCKET [ALGORITHM ALGORITHM...]\n");
		return 2;
	}
	path = argv[1];
	for (int i = 2; i < argc; i++) {
		struct account *a = &accounts[account_count++];
		a->algorithm = atoi(argv[i]);
		snprintf(a->rp, sizeof(a->rp), "alg%d.example.com", a->algorithm);
	}
	fido_init(account_count > 0 ? FIDO_DISABLE_U2F_FALLBACK : 0);
	if ((dev = fido_dev_new()) == NULL ||
	    fido_dev_set_io_functions(dev, &io) != FIDO_OK)
		return 1;

	if (account_count == 0) {
		STEP("open", NULL, open_u2f());
		STEP("U2F", NULL, u2f());
		goto end;
	}
	STEP("open", NULL, open_step());
	STEP("getInfo", NULL, get_info());
	STEP("set PIN", NULL, set_pin());
	for (size_t i = 0; i < account_count; i++)
		STEP("register", &accounts[i], register_account(&accounts[i]));
	for (size_t i = 0; i < account_count; i++)
		STEP("sign in", &accounts[i], sign_in_account(&accounts[i]));
	if (fido_dev_supports_cred_prot(dev))
		STEP("credProtect", NULL, cred_protect());
	STEP("hmac-secret", NULL, hmac_secret());
	STEP("wrong PIN", NULL, wrong_pin_step());
	STEP("PIN_AUTH_BLOCKED", NULL, pin_auth_blocked());
	STEP("three accounts", NULL, three_accounts());
	STEP("change PIN", NULL, change_pin());
	STEP("excludeList", NULL, exclude_list());
	STEP("allowList", NULL, allow_list());
	STEP("without touch", NULL, without_touch());
	STEP("selection", NULL, selection());
	STEP("cancel", NULL, cancel());
	/* It knows these two by the command bytes of their prototypes alone. */
	if (option("credentialMgmtPreview"))
		STEP("credential management", NULL, credential_management());
	if (option("userVerificationMgmtPreview"))
		STEP("fingerprints", NULL, fingerprints());
	if (fido_dev_has_uv(dev))
		STEP("built-in user verification", NULL, built_in_uv());
	if (option("largeBlobs"))
		STEP("large blobs", NULL, large_blobs());
	if (number(fido_cbor_info_maxcredbloblen) > 0)
		STEP("credBlob", NULL, cred_blob());
	if ((fido_dev_flags(dev) & FIDO_CAP_NMSG) == 0)
		STEP("U2F", NULL, u2f());
	if (has_option("ep", &enterprise))
		STEP("enterprise attestation", NULL, enterprise_attestation());
	if (option("authnrCfg"))
		STEP("config", NULL, config());
	STEP("reset", NULL, reset());
end:
	for (size_t i = 0; i < account_count; i++)
		fido_cred_free(&accounts[i].cred);
	for (size_t i = 0; i < 3; i++)
		fido_cred_free(&several_creds[i]);
	fido_cred_free(&listed_cred);
	fido_dev_close(dev);
	fido_dev_free(&dev);
	return 0;
}
