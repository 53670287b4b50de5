/* open ─▶ name the file ─▶ map and check it ──fits──▶ point the weights into the map
 *                               │ missing, wrong
 *                               └▶ pack into memory ─▶ (a thread) write header and panels
 */
#include "engine/native/packs.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "engine/native/model.h"

enum { WRITE_BYTES = 4 << 20, DIGEST_CHARS = SHA256_HEX_BYTES - 1 };

static const char magic[8] = {'M', 'L', 'X', 'H', 'P', 'A', 'C', 'K'};

struct header {
    char magic[sizeof magic];
    uint32_t version, header_bytes;
    uint64_t body_bytes;
    char layout[DIGEST_CHARS]; /* SHA-256 of what packs_layout lists */
    char check[DIGEST_CHARS];  /* SHA-256 of all before it */
};

struct packs {
    struct fs_map map; /* the file, or … */
    uint8_t *memory;   /* … what was packed here, */
    size_t bytes;
    bool writing; /* and is being written by this thread */
    pthread_t writer;
    struct header header;
    char path[FS_PATH_BYTES_MAX];
};

/* Every matrix that products run over, in the order of the file; the embedding only when it is the
 * output too. */
typedef int (*visit_fn)(void *ctx, struct weight *weight);

static int for_each_weight(struct engine_model *m, visit_fn visit, void *ctx)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < m->info.n_layers; i++) {
        for (int t = 0; rc == 0 && t < ENGINE_TARGET_COUNT; t++) {
            rc = visit(ctx, &m->layers[i].proj[t]);
        }
    }
    return rc == 0 ? visit(ctx, m->output) : rc;
}

/* --- the file's name and header --- */
struct listing {
    struct sha256 hash;
    size_t bytes;
    struct err *err;
};

static int list_weight(void *ctx, struct weight *w)
{
    struct listing *listing = ctx;
    const uint64_t row[] = {(uint64_t)w->view.type,
                            w->n_rows,
                            w->n_cols,
                            w->permuted_head,
                            (uint64_t)w->pack.kind,
                            w->pack.panel_bytes,
                            w->pack.group_shift,
                            (uint64_t)w->pack.scale_kind};
    listing->bytes += weight_packed_bytes(w);
    return sha256_update(&listing->hash, row, sizeof row, listing->err);
}

/* The header that a file for this model has. */
static int make_header(struct engine_model *m, struct header *header, struct err *err)
{
    struct listing listing = {.err = err};
    char hex[SHA256_HEX_BYTES];
    memset(header, 0, sizeof *header);
    memcpy(header->magic, magic, sizeof magic);
    header->version = PACKS_VERSION;
    header->header_bytes = PACKS_HEADER_BYTES;
    int rc = sha256_init(&listing.hash, err);
    rc = rc == 0 ? for_each_weight(m, list_weight, &listing) : rc;
    rc = rc == 0 ? sha256_final_hex(&listing.hash, hex, err) : rc;
    sha256_release(&listing.hash);
    if (rc != 0) {
        return rc;
    }
    memcpy(header->layout, hex, DIGEST_CHARS);
    header->body_bytes = listing.bytes;
    rc = sha256_hex(header, offsetof(struct header, check), hex, err);
    memcpy(header->check, hex, DIGEST_CHARS);
    return rc;
}

/* False when the path does not end in a blob's digest, or there is no folder. */
static bool name_file(const char *path, const char *cache_dir, char out[FS_PATH_BYTES_MAX])
{
    char name[DIGEST_CHARS + 8];
    struct err err = {0};
    size_t n = strlen(path);
    while (n > 0 && path[n - 1] == '/') {
        n--;
    }
    if (cache_dir == NULL || n < DIGEST_CHARS ||
        (n > DIGEST_CHARS && path[n - DIGEST_CHARS - 1] != '/')) {
        return false;
    }
    const char *digest = path + n - DIGEST_CHARS;
    if (strspn(digest, "0123456789abcdef") < DIGEST_CHARS) {
        return false;
    }
    snprintf(name, sizeof name, "%.*s.pack", (int)DIGEST_CHARS, digest);
    return fs_join(out, cache_dir, name, &err) == 0;
}

/* --- reading --- */
static bool map_file(struct packs *packs)
{
    struct err err = {0}; /* a file that cannot be read is one that is not there */
    if (!fs_exists(packs->path) || fs_map_open(&packs->map, packs->path, &err) != 0) {
        return false;
    }
    if (packs->map.size == PACKS_HEADER_BYTES + packs->header.body_bytes &&
        memcmp(packs->map.data, &packs->header, sizeof packs->header) == 0) {
        return true;
    }
    log_event(LOG_WARNING, "engine", "pack_file_wrong", "path=\"%s\"", packs->path);
    fs_map_close(&packs->map);
    return false;
}

struct placing {
    struct pool *pool; /* packs when not NULL */
    uint8_t *memory;
    const uint8_t *at;
};

static int place_weight(void *ctx, struct weight *w)
{
    struct placing *placing = ctx;
    if (placing->pool != NULL) {
        weight_pack(w, placing->memory, placing->pool);
        fs_map_forget(w->view.data, w->n_rows * w->row_bytes); /* held once is enough */
        placing->memory += weight_packed_bytes(w);
    } else {
        w->pack.data = placing->at;
        placing->at += weight_packed_bytes(w);
    }
    return 0;
}

/* --- writing --- */
static int write_file(const struct packs *packs, struct err *err)
{
    static const uint8_t zeros[PACKS_HEADER_BYTES];
    struct fs_writer writer;
    int rc = fs_writer_open(&writer, packs->path, err);
    if (rc != 0) {
        return rc;
    }
    rc = fs_writer_write(&writer, &packs->header, sizeof packs->header, err);
    if (rc == 0) {
        rc = fs_writer_write(&writer, zeros, sizeof zeros - sizeof packs->header, err);
    }
    for (size_t at = 0; rc == 0 && at < packs->bytes; at += WRITE_BYTES) {
        const size_t left = packs->bytes - at;
        rc = fs_writer_write(&writer, packs->memory + at, left < WRITE_BYTES ? left : WRITE_BYTES,
                             err);
    }
    rc = rc == 0 ? fs_writer_publish(&writer, err) : rc;
    fs_writer_abandon(&writer);
    return rc;
}

static void *writer_main(void *ctx)
{
    const struct packs *packs = ctx;
    struct err err = {0};
    if (write_file(packs, &err) != 0) {
        log_event(LOG_WARNING, "engine", "pack_file_not_written", "error=\"%s\"", err.message);
    }
    return NULL;
}

static void start_writing(struct packs *packs, const char *cache_dir)
{
    struct err err = {0};
    uint64_t space = 0;
    int rc = fs_mkdirs(cache_dir, &err);
    rc = rc == 0 ? fs_free_space(cache_dir, &space, &err) : rc;
    if (rc == 0 && space < packs->bytes + PACKS_SPACE_LEFT) {
        rc = err_set(&err, ERR_UNAVAILABLE, "no space for %zu bytes of packed weights",
                     packs->bytes);
    }
    if (rc == 0) {
        packs->writing = thread_start(&packs->writer, writer_main, packs) == 0;
        return;
    }
    log_event(LOG_WARNING, "engine", "pack_file_not_written", "error=\"%s\"", err.message);
}

static int pack_into_memory(struct packs *packs, struct engine_model *m, struct err *err)
{
    packs->memory = mem_alloc_simd(1, packs->bytes);
    if (packs->memory == NULL) {
        return mem_err(err, packs->bytes);
    }
    struct placing placing = {.pool = m->pool, .memory = packs->memory};
    return for_each_weight(m, place_weight, &placing);
}

int packs_make(struct packs **out, struct engine_model *m, const char *path, const char *cache_dir,
               struct err *err)
{
    struct packs *packs = mem_calloc(1, sizeof *packs);
    if (packs == NULL) {
        return mem_err(err, sizeof *packs);
    }
    *out = packs; /* the model's from here on, also when a step fails */
    int rc = make_header(m, &packs->header, err);
    if (rc != 0) {
        return rc;
    }
    packs->bytes = (size_t)packs->header.body_bytes;
    m->info.weight_bytes = packs->bytes;
    const bool named = name_file(path, cache_dir, packs->path);
    if (named && map_file(packs)) {
        struct placing placing = {.at = packs->map.data + PACKS_HEADER_BYTES};
        return for_each_weight(m, place_weight, &placing);
    }
    rc = pack_into_memory(packs, m, err);
    if (rc == 0 && named) {
        start_writing(packs, cache_dir);
    }
    return rc;
}

void packs_free(struct packs *packs)
{
    if (packs == NULL) {
        return;
    }
    if (packs->writing) {
        pthread_join(packs->writer, NULL);
    }
    fs_map_close(&packs->map);
    mem_free(packs->memory);
    mem_free(packs);
}
