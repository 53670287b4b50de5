/* Which files of a repository make a model. Pure: rows in, rows out. */
#include "registry/repo.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { LIST_TEXT_BYTES = 1200, FOLDER_FILES_MAX = 1024 };

static const char preferred[] = "Q4_K_M";

static bool ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);

    return n > m && strcasecmp(name + n - m, ending) == 0;
}

static bool is_top(const struct repo_file *file)
{
    return file->name == file->path;
}

/* --- GGUF --- */

/* Projections of images and tables of importance are GGUF files, too, and no models. */
static bool is_gguf(const struct repo_file *file)
{
    return ends_with(file->name, ".gguf") && !strcasestr(file->name, "mmproj") &&
           !strcasestr(file->name, "imatrix");
}

/* "model-00001-of-00003.gguf": where "-00001-of-" begins, or NULL. */
static const char *part_mark(const char *name)
{
    const char *of = strstr(name, "-of-");

    if (!of || of - name < 6 || of[-6] != '-' || strspn(of - 5, "0123456789") != 5)
        return NULL;
    return strspn(of + 4, "0123456789") == 5 ? of - 6 : NULL;
}

bool repo_gguf_is_in(const char *name, const char *quantization)
{
    const char *mark = part_mark(name);
    size_t n = mark ? (size_t)(mark - name) : strlen(name) - strlen(".gguf");
    size_t m = strlen(quantization);

    if (!ends_with(name, ".gguf") || m == 0 || m > n ||
        strncasecmp(name + n - m, quantization, m) != 0)
        return false;
    return m == n || strchr("-._", name[n - m - 1]) != NULL;
}

/* The GGUF files by name, as a sentence's end. */
static void list_ggufs(const struct repo *repo, char out[LIST_TEXT_BYTES])
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < repo->n_files; i++) {
        const struct repo_file *file = &repo->files[i];
        size_t n = strlen(file->path);

        if (!is_gguf(file))
            continue;
        if (used + n + 8 > LIST_TEXT_BYTES) {
            snprintf(out + used, LIST_TEXT_BYTES - used, ", …");
            return;
        }
        used += (size_t)snprintf(out + used, LIST_TEXT_BYTES - used, "%s%s", used ? ", " : "",
                                 file->path);
    }
}

static int take_gguf(const struct repo *repo, const struct repo_file *file, struct arena *arena,
                     struct repo_pick *pick, struct err *err)
{
    if (part_mark(file->name))
        return err_set(err, ERR_UNSUPPORTED,
                       "'%s' of '%s' is one of several parts, which the hub does not read: choose "
                       "a file that is whole, or the original weights",
                       file->path, repo->id);
    pick->files = arena_alloc(arena, 1, sizeof(struct repo_file *));
    if (!pick->files)
        return mem_err(err, 0);
    pick->files[0] = file;
    pick->n_files = 1;
    return 0;
}

/* The GGUF of this name, or in this quantization; *found counts them, *file is the first. */
static size_t find_gguf(const struct repo *repo, const char *wanted, bool by_name, size_t *found,
                        const struct repo_file **file)
{
    *found = 0;
    for (size_t i = 0; i < repo->n_files; i++) {
        const struct repo_file *at = &repo->files[i];

        if (!is_gguf(at))
            continue;
        if (wanted[0] && !(by_name ? strcmp(at->path, wanted) == 0 || strcmp(at->name, wanted) == 0
                                   : repo_gguf_is_in(at->name, wanted)))
            continue;
        /* all parts of one file count as one */
        if (*found == 0 || !part_mark(at->name) || !part_mark((*file)->name))
            ++*found;
        *file = *found == 1 ? at : *file;
    }
    return *found;
}

static int choose_gguf(const struct repo *repo, const char *wanted, struct arena *arena,
                       struct repo_pick *pick, struct err *err)
{
    const struct repo_file *file = NULL;
    char list[LIST_TEXT_BYTES];
    size_t found = 0;

    if (wanted[0]) {
        if (find_gguf(repo, wanted, true, &found, &file) == 0)
            find_gguf(repo, wanted, false, &found, &file);
    } else if (find_gguf(repo, "", false, &found, &file) > 1) {
        find_gguf(repo, preferred, false, &found, &file);
    }
    if (found == 1)
        return take_gguf(repo, file, arena, pick, err);
    list_ggufs(repo, list);
    if (!list[0])
        return err_set(err, ERR_INVALID, "'%s' holds no GGUF file, so there is no '%s' in it",
                       repo->id, wanted);
    if (wanted[0] && found == 0)
        return err_set(err, ERR_INVALID, "'%s' holds no '%s'; there is: %s", repo->id, wanted,
                       list);
    return err_set(err, ERR_INVALID,
                   "'%s' holds several GGUF files%s: say which one by its name or quantization: %s",
                   repo->id, wanted[0] ? " of that name" : "", list);
}

/* --- folders --- */

static const struct repo_file *find_top(const struct repo *repo, const char *name)
{
    for (size_t i = 0; i < repo->n_files; i++)
        if (strcmp(repo->files[i].path, name) == 0)
            return &repo->files[i];
    return NULL;
}

static bool is_described_by(const char *name)
{
    static const char *const names[] = {"config.json",
                                        "generation_config.json",
                                        "tokenizer.json",
                                        "tokenizer.model",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "chat_template.jinja",
                                        "model.safetensors.index.json",
                                        "chat_template.json"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* The weights that a model's loader reads: model.safetensors, or the parts beside its index. */
static bool is_weights(const struct repo *repo, const struct repo_file *file)
{
    const struct repo_file *index = find_top(repo, "model.safetensors.index.json");

    if (!ends_with(file->name, ".safetensors") || !is_top(file))
        return false;
    if (strcmp(file->name, "model.safetensors") == 0)
        return true;
    return index && !find_top(repo, "model.safetensors") &&
           strncmp(file->name, "consolidated", strlen("consolidated")) != 0;
}

static bool has_folder(const struct repo *repo)
{
    bool weights = false;

    for (size_t i = 0; i < repo->n_files && !weights; i++)
        weights = is_weights(repo, &repo->files[i]);
    return weights && find_top(repo, "config.json");
}

static int choose_folder(const struct repo *repo, struct arena *arena, struct repo_pick *pick,
                         struct err *err)
{
    pick->is_folder = true;
    pick->files = arena_alloc(arena, repo->n_files, sizeof(struct repo_file *));
    if (!pick->files)
        return mem_err(err, 0);
    for (size_t i = 0; i < repo->n_files; i++) {
        const struct repo_file *file = &repo->files[i];

        if (is_weights(repo, file) || (is_top(file) && is_described_by(file->name)))
            pick->files[pick->n_files++] = file;
    }
    if (pick->n_files > FOLDER_FILES_MAX)
        return err_set(err, ERR_UNSUPPORTED, "'%s' is made of %zu files, at most %d are taken",
                       repo->id, pick->n_files, FOLDER_FILES_MAX);
    return 0;
}

/* --- both --- */

static int nothing_to_take(const struct repo *repo, struct err *err)
{
    static const char *const pickles[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl"};

    for (size_t i = 0; i < repo->n_files; i++)
        for (size_t k = 0; k < sizeof pickles / sizeof pickles[0]; k++)
            if (ends_with(repo->files[i].name, pickles[k]))
                return err_set(err, ERR_UNSUPPORTED,
                               "'%s' has its weights as a pickle only (%s), which can hold any "
                               "program and is never loaded: look for the model in safetensors",
                               repo->id, repo->files[i].path);
    if (find_top(repo, "adapter_config.json"))
        return err_set(err, ERR_UNSUPPORTED, "'%s' is an adapter, not a base model", repo->id);
    return err_set(
        err, ERR_UNSUPPORTED,
        "'%s' holds no model: neither config.json with model.safetensors nor a GGUF file",
        repo->id);
}

/* Everything that will be fetched can be checked. */
static int sum_up(const struct repo *repo, struct repo_pick *pick, struct err *err)
{
    for (size_t i = 0; i < pick->n_files; i++) {
        const struct repo_file *file = pick->files[i];

        if (file->bytes < 0 || (!file->sha256 && !file->git))
            return err_set(err, ERR_CORRUPT, "The list of files of '%s' gives '%s' no %s", repo->id,
                           file->path, file->bytes < 0 ? "size" : "digest");
        for (size_t k = 0; k < i; k++)
            if (strcmp(pick->files[k]->name, file->name) == 0)
                return err_set(err, ERR_CORRUPT, "The list of files of '%s' has '%s' twice",
                               repo->id, file->name);
        if (!pick->largest || file->bytes > pick->largest->bytes)
            pick->largest = file;
        pick->bytes += file->bytes;
    }
    return 0;
}

int repo_choose(const struct repo *repo, const char *wanted, struct arena *arena,
                struct repo_pick *pick, struct err *err)
{
    bool has_gguf = false;
    int rc;

    memset(pick, 0, sizeof *pick);
    for (size_t i = 0; i < repo->n_files; i++)
        has_gguf = has_gguf || is_gguf(&repo->files[i]);
    if (wanted[0] || (has_gguf && !has_folder(repo)))
        rc = choose_gguf(repo, wanted, arena, pick, err);
    else if (has_folder(repo))
        rc = choose_folder(repo, arena, pick, err);
    else
        rc = nothing_to_take(repo, err);
    return rc == 0 ? sum_up(repo, pick, err) : rc;
}
