/* Invariant: '~' is never written by the encoding itself, so a salted folder is never equal to an
 * unsalted one, and two names of one salted folder would need equal SHA-256 beginnings. */
#include "registry/names.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/utf8.h"

enum { SALT_DIGITS = 16 };

int name_check_length(const char *field, const char *text, size_t characters_max, struct err *err)
{
    size_t length = text ? strlen(text) : 0, characters = 0;
    uint32_t code_point;

    for (size_t i = 0; i < length; characters++) {
        size_t n = utf8_decode(text + i, length - i, &code_point);

        if (n == 0)
            return err_set(err, ERR_UNPROCESSABLE, "%s is not UTF-8", field);
        i += n;
    }
    if (characters > characters_max)
        return err_set(err, ERR_UNPROCESSABLE, "%s has %zu characters, at most %zu are allowed",
                       field, characters, characters_max);
    return 0;
}

static int check_characters(const char *field, const char *name, size_t length, const char *banned,
                            struct err *err)
{
    uint32_t code_point;

    for (size_t i = 0; i < length;) {
        size_t n = utf8_decode(name + i, length - i, &code_point);

        if (n == 0)
            return err_set(err, ERR_UNPROCESSABLE, "%s is not UTF-8", field);
        if (code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0))
            return err_set(err, ERR_UNPROCESSABLE, "%s must not hold control characters", field);
        if (n == 1 && strchr(banned, name[i]))
            return err_set(err, ERR_UNPROCESSABLE, "%s must not hold '%c'", field, name[i]);
        i += n;
    }
    return 0;
}

static int check_part(const char *field, const char *name, size_t length, struct err *err)
{
    if (length == 0)
        return err_set(err, ERR_UNPROCESSABLE, "%s must not be empty", field);
    if (name[0] == ' ' || name[length - 1] == ' ')
        return err_set(err, ERR_UNPROCESSABLE, "%s must not begin or end with a space", field);
    if ((length == 1 && name[0] == '.') || (length == 2 && memcmp(name, "..", 2) == 0))
        return err_set(err, ERR_UNPROCESSABLE, "%s must not be '.' or '..'", field);
    return check_characters(field, name, length, "/\\:@", err);
}

int name_check(const char *field, const char *name, struct err *err)
{
    int rc = name_check_length(field, name, NAME_CHARACTERS_MAX, err);

    return rc < 0 ? rc : check_part(field, name ? name : "", name ? strlen(name) : 0, err);
}

/* At most one slash among the first `length` bytes. */
static int check_base(const char *field, const char *id, size_t length, struct err *err)
{
    const char *slash = memchr(id, '/', length);
    size_t first = slash ? (size_t)(slash - id) : 0;
    int rc;

    if (!slash)
        return check_part(field, id, length, err);
    rc = check_part(field, id, first, err);
    return rc < 0 ? rc : check_part(field, slash + 1, length - first - 1, err);
}

int name_check_base(const char *field, const char *id, struct err *err)
{
    int rc = name_check_length(field, id, NAME_CHARACTERS_MAX, err);

    return rc < 0 ? rc : check_base(field, id ? id : "", id ? strlen(id) : 0, err);
}

int name_check_tagged(const char *field, const char *name, struct err *err)
{
    const char *tag = name ? strrchr(name, ':') : NULL;
    int rc;

    if (!tag)
        return name_check_base(field, name, err);
    rc = name_check_length(field, name, NAME_CHARACTERS_MAX, err);
    if (rc == 0)
        rc = check_base(field, name, (size_t)(tag - name), err);
    return rc < 0 ? rc : check_part(field, tag + 1, strlen(tag + 1), err);
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr(" ._-+=,()[]", c));
}

/* Encodes as much as fits in `room` bytes without splitting a %XX; *whole tells if that was all. */
static size_t encode(const char *name, size_t room, char *out, bool *whole)
{
    size_t length = strlen(name), used = 0;

    for (size_t i = 0; i < length; i++) {
        bool edge = (name[i] == '.' || name[i] == ' ') && (i == 0 || i + 1 == length);
        bool plain = is_plain(name[i]) && !edge;

        if (used + (plain ? 1 : 3) > room) {
            *whole = false;
            return used;
        }
        if (plain)
            out[used++] = name[i];
        else
            used += (size_t)snprintf(out + used, 4, "%%%02X", (unsigned char)name[i]);
    }
    *whole = true;
    return used;
}

int name_folder(const char *name, bool salted, char out[NAME_FOLDER_BYTES], struct err *err)
{
    char hex[SHA256_HEX_BYTES];
    bool whole = false;
    size_t used = encode(name, NAME_FOLDER_BYTES_MAX, out, &whole);

    out[used] = '\0';
    if (whole && !salted)
        return 0;
    int rc = sha256_hex(name, strlen(name), hex, err);
    if (rc < 0)
        return rc;
    used = encode(name, NAME_FOLDER_BYTES_MAX - SALT_DIGITS - 1, out, &whole);
    snprintf(out + used, NAME_FOLDER_BYTES - used, "~%.*s", SALT_DIGITS, hex);
    return 0;
}
