/* How it works. SHA-256 is OpenSSL's EVP interface, which picks SHA-NI by itself. hash_bytes folds
 * eight bytes at a time with a 64×64→128 multiply, the mixing step of the wyhash family.
 */
#include "base/hash.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/rng.h"

enum { FILE_CHUNK_BYTES = 1 << 18 };

static const char HEX[] = "0123456789abcdef";

static void to_hex(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = HEX[bytes[i] >> 4];
        out[2 * i + 1] = HEX[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

int sha256_init(struct sha256 *hash, struct err *err)
{
    hash->ctx = fault_hit(FAULT_MALLOC) ? NULL : EVP_MD_CTX_new();
    if (!hash->ctx)
        return err_set(err, ERR_NOMEM, "out of memory for a SHA-256 context");
    if (EVP_DigestInit_ex(hash->ctx, EVP_sha256(), NULL) != 1) {
        sha256_release(hash);
        return err_set(err, ERR_INTERNAL, "SHA-256 is not available in the crypto library");
    }
    return 0;
}

int sha256_update(struct sha256 *hash, const void *bytes, size_t n, struct err *err)
{
    assert(hash->ctx);
    if (EVP_DigestUpdate(hash->ctx, bytes, n) != 1)
        return err_set(err, ERR_INTERNAL, "SHA-256 failed in the crypto library");
    return 0;
}

int sha256_final_hex(struct sha256 *hash, char out[SHA256_HEX_BYTES], struct err *err)
{
    assert(hash->ctx);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    int ok = EVP_DigestFinal_ex(hash->ctx, digest, &length);
    sha256_release(hash);
    if (ok != 1 || length != SHA256_BYTES)
        return err_set(err, ERR_INTERNAL, "SHA-256 failed in the crypto library");
    to_hex(digest, SHA256_BYTES, out);
    return 0;
}

void sha256_release(struct sha256 *hash)
{
    EVP_MD_CTX_free(hash->ctx);
    hash->ctx = NULL;
}

int sha256_hex(const void *bytes, size_t n, char out[SHA256_HEX_BYTES], struct err *err)
{
    struct sha256 hash = {0};
    int rc = sha256_init(&hash, err);
    if (rc == 0)
        rc = sha256_update(&hash, bytes, n, err);
    if (rc == 0)
        rc = sha256_final_hex(&hash, out, err);
    sha256_release(&hash);
    return rc;
}

/* All of a file into a digest that was begun. */
static int update_with_file(EVP_MD_CTX *ctx, int fd, const char *path, struct err *err)
{
    int rc = 0;
    char *chunk = mem_alloc(FILE_CHUNK_BYTES);
    if (!chunk)
        return mem_err(err, FILE_CHUNK_BYTES);
    while (rc == 0) {
        ssize_t got = fault_hit(FAULT_READ) ? (errno = EIO, -1) : read(fd, chunk, FILE_CHUNK_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = err_set_errno(err, errno, "cannot read %s", path);
        if (got <= 0)
            break;
        if (EVP_DigestUpdate(ctx, chunk, (size_t)got) != 1)
            rc = err_set(err, ERR_INTERNAL, "hashing failed in the crypto library");
    }
    mem_free(chunk);
    return rc;
}

int sha256_file_hex(const char *path, char out[SHA256_HEX_BYTES], struct err *err)
{
    struct sha256 hash = {0};
    int fd = fault_hit(FAULT_OPEN) ? (errno = EMFILE, -1) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", path);
    int rc = sha256_init(&hash, err);
    if (rc == 0)
        rc = update_with_file(hash.ctx, fd, path, err);
    if (rc == 0)
        rc = sha256_final_hex(&hash, out, err);
    sha256_release(&hash);
    close(fd);
    return rc;
}

int git_blob_hex(const char *path, char out[GIT_HEX_BYTES], struct err *err)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    char head[32];
    struct stat info;
    unsigned length = 0;
    int rc = 0;
    int fd = fault_hit(FAULT_OPEN) ? (errno = EMFILE, -1) : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set_errno(err, errno, "cannot open %s", path);
    EVP_MD_CTX *ctx = fault_hit(FAULT_MALLOC) ? NULL : EVP_MD_CTX_new();
    if (!ctx)
        rc = err_set(err, ERR_NOMEM, "out of memory for a SHA-1 context");
    else if (fstat(fd, &info) != 0)
        rc = err_set_errno(err, errno, "cannot read %s", path);
    if (rc == 0) {
        int n = snprintf(head, sizeof head, "blob %lld", (long long)info.st_size);
        if (EVP_DigestInit_ex(ctx, EVP_sha1(), NULL) != 1 ||
            EVP_DigestUpdate(ctx, head, (size_t)n + 1) != 1)
            rc = err_set(err, ERR_INTERNAL, "SHA-1 is not available in the crypto library");
    }
    if (rc == 0)
        rc = update_with_file(ctx, fd, path, err);
    if (rc == 0 && (EVP_DigestFinal_ex(ctx, digest, &length) != 1 || length != GIT_HEX_BYTES / 2))
        rc = err_set(err, ERR_INTERNAL, "SHA-1 failed in the crypto library");
    if (rc == 0)
        to_hex(digest, length, out);
    EVP_MD_CTX_free(ctx);
    close(fd);
    return rc;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t hash_bytes(const void *bytes, size_t n, uint64_t seed)
{
    const uint64_t k0 = 0x9E3779B97F4A7C15u, k1 = 0xD6E8FEB86659FD93u, k2 = 0xA0761D6478BD642Fu;
    const uint8_t *p = bytes;
    uint64_t h = fold(seed ^ k0, (uint64_t)n ^ k1);
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        h = fold(h ^ word, k2);
    }
    uint64_t tail = 0;
    if (n)
        memcpy(&tail, p, n);
    return fold(h ^ tail ^ k0, k1);
}

int uuid_make(char out[UUID_BYTES], struct err *err)
{
    uint8_t b[16];
    if (rng_os_bytes(b, sizeof b) != 0)
        return err_set(err, ERR_IO, "the operating system gave no random bytes");
    b[6] = (uint8_t)((b[6] & 0x0F) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3F) | 0x80);
    char *to = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = HEX[b[i] >> 4];
        *to++ = HEX[b[i] & 15];
    }
    *to = '\0';
    return 0;
}

int uuid_valid(const char *text)
{
    for (int i = 0; i < UUID_BYTES - 1; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
            return 0;
    }
    return text[UUID_BYTES - 1] == '\0';
}

/* The time depends on the length of `a`, what the client sent, and on nothing in `b`. */
int secret_equal(const char *a, const char *b)
{
    size_t a_length = strlen(a), b_length = strlen(b);
    volatile unsigned char differs = a_length != b_length;
    for (size_t i = 0; i < a_length; i++) {
        size_t at = b_length ? i % b_length : 0;
        differs = (unsigned char)(differs | ((unsigned char)a[i] ^ (unsigned char)b[at]));
    }
    return differs == 0;
}
