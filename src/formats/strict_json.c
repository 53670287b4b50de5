/* UTF-8 is checked before the JSON so that each fault keeps its own message; the parser's own error
 * is then passed on under this room's code. */
#include "formats/strict_json.h"

#include "base/buf.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/utf8.h"

int strict_json_parse(const char *what, const char *text, size_t length, json_t **object,
                      struct err *err)
{
    if (!utf8_valid(text, length))
        return err_set(err, ERR_CORRUPT, "%s: invalid UTF-8", what);
    struct err why = {0};
    json_t *tree = json_parse(text, length, &why);
    if (!tree)
        return why.code == ERR_NOMEM
                   ? err_set(err, ERR_NOMEM, "%s: %s", what, why.message)
                   : err_set(err, ERR_CORRUPT, "%s: invalid JSON: %s", what, why.message);
    if (!json_is_object(tree)) {
        json_decref(tree);
        return err_set(err, ERR_CORRUPT, "%s: invalid JSON: not an object", what);
    }
    *object = tree;
    return 0;
}

int strict_json_file(const char *dir, const char *name, size_t bytes_max, bool optional,
                     json_t **object, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    struct buf text;
    *object = NULL;
    int rc = fs_join(path, dir, name, err);
    if (rc != 0 || (optional && !fs_exists(path)))
        return rc;
    buf_init(&text, bytes_max);
    rc = fs_read_file(path, bytes_max, &text, err);
    if (rc == 0)
        rc = strict_json_parse(path, text.data ? text.data : "", text.len, object, err);
    buf_release(&text);
    return rc;
}
