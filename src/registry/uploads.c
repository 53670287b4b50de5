/* Uploading a dataset: the body streams into a temporary file inside the datasets folder; it is
 * checked there and gets its name by one rename.
 *
 *   begin → write … → finish: check rows → conflicts → rename → insert row
 *                       └ failed: temporary file removed; after the rename: file removed, unless it
 *                         was there before with the same bytes (its name holds its hash)
 */
#include <string.h>

#include "registry/datasets_int.h"
#include "registry/names.h"
#include "registry/registry_int.h"

enum { SHA_SHOWN = 12 };

struct dataset_upload {
    struct registry *registry;
    struct arena arena; /* the draft's own copies */
    struct dataset_draft draft;
    struct dataset_columns columns;
    uint64_t bytes_max;
    char folder[NAME_FOLDER_BYTES];
    struct fs_writer writer;
};

static int copy_draft(struct dataset_upload *upload, const struct dataset_draft *draft,
                      struct err *err)
{
    struct dataset_record row;
    int rc = dataset_draft_check(draft, &upload->arena, &row, &upload->columns, err);

    upload->draft = (struct dataset_draft){.name = row.name,
                                           .file = row.name,
                                           .schema_info = rc == 0 ? row.schema_info : NULL,
                                           .columns = row.columns,
                                           .check = draft->check,
                                           .check_ctx = draft->check_ctx};
    if (rc == 0 && draft->file && draft->file[0]) {
        upload->draft.file = arena_strdup(&upload->arena, draft->file);
        rc = upload->draft.file ? 0 : mem_err(err, strlen(draft->file));
    }
    return rc;
}

int registry_upload_begin(struct registry *registry, const struct dataset_draft *draft,
                          uint64_t bytes_max, struct dataset_upload **out, struct err *err)
{
    struct dataset_upload *upload = mem_calloc(1, sizeof *upload);
    char path[FS_PATH_BYTES_MAX];
    int rc;

    *out = NULL;
    if (!upload)
        return mem_err(err, sizeof *upload);
    upload->registry = registry;
    upload->bytes_max = bytes_max;
    arena_init(&upload->arena, 0);
    rc = copy_draft(upload, draft, err);
    if (rc == 0)
        rc = dataset_name_free(registry, draft->name, err);
    if (rc == 0)
        rc = name_folder(draft->name, false, upload->folder, err);
    if (rc == 0)
        rc = fs_join(path, registry->storage.datasets, upload->folder, err);
    if (rc == 0)
        rc = fs_writer_open(&upload->writer, path, err);
    if (rc < 0) {
        registry_upload_abandon(upload);
        return rc;
    }
    *out = upload;
    return 0;
}

int registry_upload_write(struct dataset_upload *upload, const void *bytes, size_t n,
                          struct err *err)
{
    if (n > upload->bytes_max || upload->writer.written > upload->bytes_max - n)
        return err_set(err, ERR_TOO_LARGE, "The dataset is larger than the %llu bytes allowed",
                       (unsigned long long)upload->bytes_max);
    return fs_writer_write(&upload->writer, bytes, n, err);
}

void registry_upload_abandon(struct dataset_upload *upload)
{
    if (!upload)
        return;
    fs_writer_abandon(&upload->writer);
    arena_release(&upload->arena);
    mem_free(upload);
}

/* The name is only known now that the hash is: the writer renames to whatever its path says. */
static int name_file(struct dataset_upload *upload, const struct dataset_report *report,
                     struct err *err)
{
    char name[NAME_FOLDER_BYTES + SHA_SHOWN + 16];

    snprintf(name, sizeof name, "%s-%.*s.jsonl", upload->folder, SHA_SHOWN, report->sha256);
    return fs_join(upload->writer.path, upload->registry->storage.datasets, name, err);
}

static int publish(struct dataset_upload *upload, const struct dataset_report *report,
                   struct arena *arena, struct dataset_record *row, struct err *err)
{
    char path[FS_PATH_BYTES_MAX];
    struct dataset_columns columns;
    struct err ignored = {0};
    int rc = name_file(upload, report, err);

    if (rc < 0)
        return rc;
    memcpy(path, upload->writer.path, sizeof path);
    bool was_there = fs_exists(path);
    rc = dataset_draft_check(&upload->draft, arena, row, &columns, err);
    if (rc == 0)
        rc = fs_writer_publish(&upload->writer, err);
    if (rc == 0)
        rc = dataset_insert(upload->registry, path, report, arena, row, err);
    if (rc < 0 && !was_there)
        (void)!fs_remove_file(path, &ignored);
    return rc;
}

int registry_upload_finish(struct dataset_upload *upload, struct arena *arena,
                           struct dataset_record *row, struct err *err)
{
    struct dataset_report report;
    int rc = dataset_draft_read(&upload->draft, upload->writer.temp, upload->draft.file,
                                &upload->columns, &report, err);

    if (rc == 0)
        rc = publish(upload, &report, arena, row, err);
    registry_upload_abandon(upload);
    return rc;
}
