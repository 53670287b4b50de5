/* SHA-256 (OpenSSL's, for SHA-NI) and hex text. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { SHA256_BYTES = 32, SHA256_HEX_BYTES = 65 };

struct sha256 {
    void *ctx; /* EVP_MD_CTX */
};
int sha256_init(struct sha256 *hash, struct err *err) MUST_CHECK;
int sha256_update(struct sha256 *hash, const void *bytes, size_t n, struct err *err) MUST_CHECK;
/* Writes lower-case hex with its NUL and releases the context. */
int sha256_final_hex(struct sha256 *hash, char out[SHA256_HEX_BYTES], struct err *err) MUST_CHECK;
void sha256_release(struct sha256 *hash); /* safe after final and on a zeroed struct */

int sha256_hex(const void *bytes, size_t n, char out[SHA256_HEX_BYTES], struct err *err) MUST_CHECK;
int sha256_file_hex(const char *path, char out[SHA256_HEX_BYTES], struct err *err) MUST_CHECK;

/* The name that git gives a file's bytes: SHA-1 over "blob <bytes>", a NUL and them. It tells a
 * damaged copy from a whole one, not a forged one. */
enum { GIT_HEX_BYTES = 41 };
int git_blob_hex(const char *path, char out[GIT_HEX_BYTES], struct err *err) MUST_CHECK;

/* A fast 64-bit hash for tables in memory (not for files, not against an adversary). */
uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed);

/* Random UUID, version 4, lower case. */
enum { UUID_BYTES = 37 };
int uuid_make(char out[UUID_BYTES], struct err *err) MUST_CHECK;
/* True for the canonical 8-4-4-4-12 hex form, either case. */
int uuid_valid(const char *text);

/* Compares secrets in constant time; lengths may differ. */
int secret_equal(const char *a, const char *b);

#endif
