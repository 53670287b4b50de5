#include "api/job_rows.h"

#include <string.h>

#include "registry/datasets.h"

enum { ROWS_CHECKED_BYTES_MAX = 64 << 20 }; /* some seconds' work */

/* What the rows' tokens say, of a file that is still the one registered. */
static int judge(const json_t *answer, const struct dataset_record *row, const char *purpose,
                 struct err *err)
{
    const char *sha256 = json_string_value(json_object_get(answer, "sha256"));
    const char *bad = json_string_value(json_array_get(json_object_get(answer, "bad"), 0));
    const json_int_t n_bad = json_integer_value(json_object_get(answer, "bad_rows"));
    const json_int_t rows = json_integer_value(json_object_get(answer, "rows"));
    if (sha256 == NULL || strcmp(sha256, row->checksum) != 0) {
        return 0;
    }
    if (bad != NULL && n_bad > 1) {
        return err_set(err, ERR_INVALID, "%s; and %lld more rows, which a dataset check shows", bad,
                       (long long)n_bad - 1);
    }
    if (bad != NULL) {
        return err_set(err, ERR_INVALID, "%s", bad);
    }
    if (rows == json_integer_value(json_object_get(answer, "dropped"))) {
        return err_set(err, ERR_INVALID,
                       "Dataset '%s': nothing to %s: none of its %lld rows has a target within "
                       "max_seq_length %lld",
                       row->name, purpose, (long long)rows,
                       (long long)json_integer_value(json_object_get(answer, "max_seq_length")));
    }
    return 0;
}

int job_check_rows(struct hub *hub, const char *dataset_id, const struct check_request *how,
                   const char *purpose, struct arena *arena, struct err *err)
{
    struct err unread = {0};
    struct dataset_record row;
    struct buf text;
    json_t *answer = NULL;
    if (dataset_id == NULL || dataset_id[0] == '\0' ||
        registry_get_dataset(hub->registry, dataset_id, arena, &row, &unread) != 0 ||
        row.bytes > ROWS_CHECKED_BYTES_MAX) {
        return 0;
    }
    struct check_request request = *how;
    request.dataset_path = row.path;
    request.columns = row.columns;
    buf_init(&text, CHECK_ANSWER_BYTES_MAX);
    if (train_inspect_check(hub->program, &request, &text, &unread) == 0) {
        answer = json_parse(text.data, text.len, &unread);
    }
    buf_release(&text);
    const int rc = judge(answer, &row, purpose, err);
    json_decref(answer);
    return rc;
}
