/* Map what is there; else compile, and leave it for the next start. */
#include "engine/tokenizer_cache.h"

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/log.h"
#include "engine/tokenizer_files.h"

/* The digest at the end of path, or NULL. */
static const char *digest_of(const char *path)
{
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/') {
        n--;
    }
    if (n < TOKENIZER_KEY_BYTES ||
        (n > TOKENIZER_KEY_BYTES && path[n - TOKENIZER_KEY_BYTES - 1] != '/')) {
        return NULL;
    }
    const char *digest = path + n - TOKENIZER_KEY_BYTES;
    return strspn(digest, "0123456789abcdef") >= TOKENIZER_KEY_BYTES ? digest : NULL;
}

static int leave(const struct tokenizer *tok, const char *dir, const char *path, const char *key,
                 struct err *err)
{
    uint64_t space = 0;
    int rc = fs_mkdirs(dir, err);
    rc = rc == 0 ? fs_free_space(dir, &space, err) : rc;
    if (rc == 0 && space < TOKENIZER_CACHE_SPACE_LEFT + tokenizer_bytes(tok)) {
        return err_set(err, ERR_NOSPACE, "%s has too little space", dir);
    }
    return rc == 0 ? tokenizer_write(tok, path, key, err) : rc;
}

int tokenizer_from_cache(const struct model_files *files, const char *path, const char *cache_dir,
                         struct tokenizer **tokenizer, struct err *err)
{
    char name[TOKENIZER_KEY_BYTES + sizeof ".tokenizer"];
    char file[FS_PATH_BYTES_MAX];
    const char *key = cache_dir == NULL ? NULL : digest_of(path);
    struct err why = {0};
    if (key == NULL) {
        return tokenizer_from_files(files, tokenizer, err);
    }
    snprintf(name, sizeof name, "%.*s.tokenizer", TOKENIZER_KEY_BYTES, key);
    int rc = fs_join(file, cache_dir, name, err);
    if (rc != 0 || tokenizer_map(tokenizer, file, key, &why) == 0) {
        return rc;
    }
    rc = tokenizer_from_files(files, tokenizer, err);
    err_clear(&why);
    if (rc == 0 && *tokenizer != NULL && leave(*tokenizer, cache_dir, file, key, &why) != 0) {
        log_event(LOG_WARNING, "engine", "tokenizer_file_not_written", "error=\"%s\"", why.message);
    }
    return rc;
}
