/* Sending files: a source that reads blocks with pread on worker threads, since a cold file would
 * stall every connection of an event thread that read it itself.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "http/request.h"

struct file_source {
    int fd;
    int64_t at;
    int64_t left;
};

struct range {
    int64_t first, length;
    enum { RANGE_NONE, RANGE_PART, RANGE_BEYOND } kind;
};

static int64_t file_read(void *ctx, char *bytes, size_t n)
{
    struct file_source *file = ctx;
    ssize_t got;

    if ((uint64_t)file->left < n)
        n = (size_t)file->left;
    do
        got = n > 0 ? pread(file->fd, bytes, n, (off_t)file->at) : 0;
    while (got < 0 && errno == EINTR);
    if (got < 0 || (got == 0 && file->left > 0))
        return -1; /* unreadable, or shorter than when it was opened */
    file->at += got;
    file->left -= got;
    return got;
}

static void file_release(void *ctx)
{
    struct file_source *file = ctx;

    close(file->fd);
    mem_free(file);
}

/* Reads digits; false when there are none or too many. */
static bool read_number(const char **at, int64_t *value)
{
    size_t n = strspn(*at, "0123456789");

    if (n == 0 || n > 18)
        return false;
    *value = strtoll(*at, NULL, 10);
    *at += n;
    return true;
}

/* One byte range (RFC 9110, 14.1.2). Several, or what is malformed, is answered with the whole. */
static struct range parse_range(const char *text, int64_t size)
{
    struct range whole = {0, size, RANGE_NONE};
    int64_t first = 0, last = size - 1;

    if (!text || strncmp(text, "bytes=", 6) != 0)
        return whole;
    text += 6;
    if (*text == '-') {
        text++;
        if (!read_number(&text, &first) || *text)
            return whole;
        first = first > size ? 0 : first == 0 ? size : size - first;
    } else {
        if (!read_number(&text, &first) || *text++ != '-')
            return whole;
        if (*text && (!read_number(&text, &last) || *text || last < first))
            return whole;
        last = last < size ? last : size - 1;
    }
    if (first >= size)
        return (struct range){0, 0, RANGE_BEYOND};
    return (struct range){first, last - first + 1, RANGE_PART};
}

static int add_disposition(struct http_response *response, const char *name, struct err *err)
{
    static const char hex[] = "0123456789ABCDEF";
    char *text = arena_alloc(response->arena, 3 * strlen(name) + 1, 1);
    char *at = text;

    if (!text)
        return mem_err(err, 3 * strlen(name));
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;
        if (isalnum(c) || strchr("-._~", c)) {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        }
    }
    *at = 0;
    text = arena_printf(response->arena, "attachment; filename*=UTF-8''%s", text);
    return text ? http_response_header(response, "Content-Disposition", text, err)
                : mem_err(err, strlen(name));
}

static int add_range_headers(struct http_response *response, const struct range *range,
                             int64_t size, struct err *err)
{
    int rc = http_response_header(response, "Accept-Ranges", "bytes", err);
    char *text = NULL;

    if (rc != 0 || range->kind == RANGE_NONE)
        return rc;
    if (range->kind == RANGE_BEYOND)
        text = arena_printf(response->arena, "bytes */%" PRId64, size);
    else
        text = arena_printf(response->arena, "bytes %" PRId64 "-%" PRId64 "/%" PRId64, range->first,
                            range->first + range->length - 1, size);
    return text ? http_response_header(response, "Content-Range", text, err) : mem_err(err, 64);
}

static int open_regular(const char *path, int *fd, int64_t *size, struct err *err)
{
    struct stat stat;

    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return err_set_errno(err, errno, "opening a file to send");
    if (fstat(*fd, &stat) == 0 && S_ISREG(stat.st_mode)) {
        *size = (int64_t)stat.st_size;
        return 0;
    }
    close(*fd);
    return err_set(err, ERR_NOT_FOUND, "Not a file");
}

int http_reply_file(struct http_request *request, struct http_response *response, const char *path,
                    const char *content_type, const char *name, struct err *err)
{
    bool whole = http_header(request, "If-Range") != NULL;
    struct file_source *file;
    struct range range;
    int64_t size = 0;
    int fd, rc;

    rc = open_regular(path, &fd, &size, err);
    if (rc != 0)
        return rc;
    range = parse_range(whole ? NULL : http_header(request, "Range"), size);
    rc = add_range_headers(response, &range, size, err);
    if (rc == 0 && name)
        rc = add_disposition(response, name, err);
    response->content_type = content_type;
    response->status = range.kind == RANGE_NONE ? 200 : range.kind == RANGE_PART ? 206 : 416;
    file = rc == 0 && range.length > 0 ? mem_calloc(1, sizeof(*file)) : NULL;
    if (!file) {
        close(fd);
        return rc != 0 || range.length == 0 ? rc : mem_err(err, sizeof(*file));
    }
    *file = (struct file_source){fd, range.first, range.length};
    return http_reply_source(request, response, range.length, file_read, file_release, file, err);
}
