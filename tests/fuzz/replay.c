/* Replays a fuzz target over files: every file of every folder that is named, in sorted order.
 *
 * Linked with one tests/fuzz/fuzz_*.c in place of libFuzzer, so that the corpora (seeds and the
 * inputs of past bugs) run with any compiler as part of the ordinary tests. A folder that is
 * missing or holds no file fails the run: a corpus that got lost must not look like a pass.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { INPUT_BYTES_MAX = 64 << 20, PATH_BYTES_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int replay_file(const char *path)
{
    int failed = 1;
    uint8_t *data = NULL;
    long size = 0;
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        perror(path);
        return 1;
    }
    if (fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0 || size > INPUT_BYTES_MAX ||
        fseek(file, 0, SEEK_SET) != 0) {
        fprintf(stderr, "%s: not a readable file of at most %d bytes\n", path, INPUT_BYTES_MAX);
        goto out;
    }
    /* Exactly `size` bytes, so that a sanitizer sees a read one byte past the input. */
    data = malloc(size > 0 ? (size_t)size : 1);
    if (data == NULL || fread(data, 1, (size_t)size, file) != (size_t)size) {
        fprintf(stderr, "%s: cannot be read\n", path);
        goto out;
    }
    LLVMFuzzerTestOneInput(data, (size_t)size);
    failed = 0;
out:
    free(data);
    fclose(file);
    return failed;
}

/* Returns how many files were replayed, or -1. */
static int replay_folder(const char *folder)
{
    struct dirent **entries = NULL;
    char path[PATH_BYTES_MAX];
    int failed = 0;
    int n = scandir(folder, &entries, not_hidden, alphasort);

    if (n < 0) {
        perror(folder);
        return -1;
    }
    for (int i = 0; i < n; i++) {
        int length = snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        failed |= length >= (int)sizeof path || replay_file(path) != 0;
        free(entries[i]);
    }
    free(entries);
    if (n == 0) {
        fprintf(stderr, "%s: no input in this folder\n", folder);
    }
    return failed || n == 0 ? -1 : n;
}

int main(int argc, char **argv)
{
    int failed = 0;

    if (argc < 2) {
        fprintf(stderr, "usage: %s FOLDER…\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        int n = replay_folder(argv[i]);
        failed |= n < 0;
        if (n > 0) {
            printf("%s: %d inputs replayed\n", argv[i], n);
        }
    }
    return failed;
}
