/* Any bytes as a model hub's list of files: what passes names only plain relative paths, and what
 * is chosen of it is some of its rows, each with a size and a digest, none of them a pickle. */
#include <stdlib.h>
#include <string.h>

#include "registry/repo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const char *path)
{
    if (path[0] == '/' || path[0] == '\0' || strstr(path, "/../") || strncmp(path, "../", 3) == 0 ||
        strcmp(path, "..") == 0 || strchr(path, '\\') || strchr(path, '\n'))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const wanted[] = {"", "Q4_K_M", "m.gguf"};
    const struct repo_name name = {.id = "org/name"};
    struct arena arena;
    struct repo repo;
    struct err err = {0};

    arena_init(&arena, 64 << 20);
    if (repo_read((const char *)data, size, &name, &arena, &repo, &err) == 0) {
        for (size_t i = 0; i < repo.n_files; i++)
            check_path(repo.files[i].path);
        for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++) {
            struct repo_pick pick;
            struct err why = {0};

            if (repo_choose(&repo, wanted[w], &arena, &pick, &why) < 0)
                continue;
            if (pick.n_files == 0 || (!pick.is_folder && pick.n_files != 1))
                abort();
            for (size_t i = 0; i < pick.n_files; i++) {
                const struct repo_file *file = pick.files[i];
                if (file->bytes < 0 || (!file->sha256 && !file->git) ||
                    strstr(file->name, ".bin") || strchr(file->name, '/'))
                    abort();
            }
        }
    }
    arena_release(&arena);
    return 0;
}
