/* Any bytes as a dataset: read row by row, touching all that a row hands out, and checked whole.
 * The reader takes a path, so the bytes go to one file of this process's own. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t seen; /* keeps the reads */

static void touch(struct dataset_text text)
{
    for (size_t i = 0; i < text.length; i++)
        seen += (uint8_t)text.bytes[i];
}

static void read_rows(const char *file)
{
    struct dataset_reader *reader = NULL;
    struct dataset_row row;
    struct err err = {0};
    bool more = true;

    if (dataset_reader_new(&reader, file, NULL, &err) < 0)
        abort();
    while (more) {
        err_clear(&err);
        if (dataset_reader_next(reader, &row, &more, &err) < 0 || !more)
            continue;
        touch(row.prompt);
        touch(row.completion);
        touch(row.text);
        seen += json_array_size(row.messages) + json_array_size(row.tools);
    }
    dataset_reader_free(reader);
}

static char path[] = "/tmp/mlx-hub-fuzz-XXXXXX";

static void remove_file(void)
{
    (void)!unlink(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct dataset_report report;
    struct err err = {0};

    if (fd < 0) {
        fd = mkstemp(path);
        (void)!atexit(remove_file);
    }
    if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    read_rows(path);
    if (dataset_check(path, "input", NULL, &report, &err) < 0 && err.code != ERR_INVALID)
        abort();
    return 0;
}
