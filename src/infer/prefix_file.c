/* The order of use has every block before its children, so a file written in that order can be read
 * in one go; marking blocks as used from the last to the first gives the order back. */
#include "infer/prefix_file.h"

#include <string.h>

#include "base/fs.h"
#include "base/hash.h"
#include "base/mem.h"

/* A block without its page. */
struct block_head {
    uint32_t parent; /* ordinal from 1; 0 = the key's root */
    uint32_t n_tokens;
    int32_t tokens[PREFIX_BLOCK];
    char key[PREFIX_KEY_BYTES];
};

enum { HEAD_BYTES = PREFIX_IDENTITY_BYTES + 8, CHECKSUM_BYTES = SHA256_HEX_BYTES - 1 };

static void identify(const struct prefix_cache *c, const char *base_key,
                     char identity[PREFIX_IDENTITY_BYTES])
{
    const struct engine_info *info = engine_model_info(c->model);
    memset(identity, 0, PREFIX_IDENTITY_BYTES);
    (void)snprintf(identity, PREFIX_IDENTITY_BYTES,
                   "mlx-hub prefixes 1\nbase %.80s\nengine %s numerics %d\n"
                   "layers %d kv_heads %d head_dim %d block %d page %llu\n",
                   base_key, info->engine, ENGINE_NUMERICS_VERSION, info->n_layers,
                   info->n_kv_heads, info->head_dim, PREFIX_BLOCK,
                   (unsigned long long)info->kv_page_bytes);
}

/* --- writing --- */

struct saver {
    struct fs_writer file;
    struct sha256 hash;
};

static int put(struct saver *s, const void *bytes, size_t n, struct err *err)
{
    const int rc = sha256_update(&s->hash, bytes, n, err);
    return rc == 0 ? fs_writer_write(&s->file, bytes, n, err) : rc;
}

/* The key of the root that n stands under. */
static const char *key_of(const struct prefix_node *n)
{
    while (n->page != NULL) {
        n = n->parent;
    }
    const char *root = (const char *)n - offsetof(struct prefix_root, node);
    return root + offsetof(struct prefix_root, key);
}

static int put_blocks(struct prefix_cache *c, struct saver *s, uint64_t n, struct err *err)
{
    int rc = put(s, &n, sizeof n, err);
    struct prefix_node *node = c->newest;
    for (uint32_t i = 1; rc == 0 && i <= n; i++, node = node->older) {
        struct block_head head = {.parent = node->parent->page != NULL ? node->parent->saved_as : 0,
                                  .n_tokens = (uint32_t)node->n_tokens};
        const char *key = key_of(node);
        memcpy(head.tokens, node->tokens, (size_t)node->n_tokens * sizeof head.tokens[0]);
        memcpy(head.key, key, strlen(key));
        node->saved_as = i;
        rc = put(s, &head, sizeof head, err);
        rc = rc == 0 ? put(s, engine_page_bytes(node->page), c->page_bytes, err) : rc;
    }
    return rc;
}

/* What a save that was cut off has left. */
static int remove_remains(void *ctx, const char *name, bool is_dir)
{
    const char *path = ctx;
    const char *slash = strrchr(path, '/');
    const char *own = slash != NULL ? slash + 1 : path;
    const size_t n = strlen(own);
    char remains[FS_PATH_BYTES_MAX];
    struct err err = {0};
    if (!is_dir && strncmp(name, own, n) == 0 && strncmp(name + n, ".tmp-", 5) == 0 &&
        snprintf(remains, sizeof remains, "%.*s%s", (int)(own - path), path, name) <
            (int)sizeof remains) {
        return fs_remove_file(remains, &err);
    }
    return 0;
}

static void clean_up(const char *path)
{
    char folder[FS_PATH_BYTES_MAX];
    char copy[FS_PATH_BYTES_MAX];
    struct err err = {0};
    const char *slash = strrchr(path, '/');
    if (slash != NULL && strlen(path) < sizeof folder) {
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
        (void)snprintf(copy, sizeof copy, "%s", path);
        (void)!fs_list_dir(folder, remove_remains, copy, &err);
    }
}

int prefix_file_save(struct prefix_cache *c, const char *path, const char *base_key,
                     uint64_t bytes_max, struct err *err)
{
    char identity[PREFIX_IDENTITY_BYTES];
    char checksum[SHA256_HEX_BYTES];
    struct saver s = {0};
    const uint64_t fit = bytes_max / (sizeof(struct block_head) + c->page_bytes);
    identify(c, base_key, identity);
    clean_up(path);
    int rc = fs_writer_open(&s.file, path, err);
    if (rc == 0) {
        rc = sha256_init(&s.hash, err);
    }
    if (rc == 0) {
        rc = put(&s, identity, sizeof identity, err);
    }
    if (rc == 0) {
        rc = put_blocks(c, &s, c->n_nodes < fit ? c->n_nodes : fit, err);
    }
    if (rc == 0) {
        rc = sha256_final_hex(&s.hash, checksum, err);
    }
    if (rc == 0) {
        rc = fs_writer_write(&s.file, checksum, CHECKSUM_BYTES, err);
    }
    if (rc == 0) {
        rc = fs_writer_publish(&s.file, err);
    }
    sha256_release(&s.hash);
    fs_writer_abandon(&s.file);
    return rc;
}

/* --- reading --- */

static int check_file(const struct prefix_cache *c, const struct fs_map *map, const char *base_key,
                      uint64_t *n, struct err *err)
{
    char identity[PREFIX_IDENTITY_BYTES];
    char checksum[SHA256_HEX_BYTES];
    const uint64_t block = sizeof(struct block_head) + c->page_bytes;
    if (map->size < HEAD_BYTES + CHECKSUM_BYTES) {
        return err_set(err, ERR_CORRUPT, "%zu bytes are no file of kept pages", map->size);
    }
    const uint64_t body = map->size - HEAD_BYTES - CHECKSUM_BYTES;
    identify(c, base_key, identity);
    if (memcmp(map->data, identity, sizeof identity) != 0) {
        return err_set(err, ERR_CORRUPT, "of another base, numerics version or layout");
    }
    memcpy(n, map->data + sizeof identity, sizeof *n);
    if (body % block != 0 || *n != body / block || *n > UINT32_MAX) {
        return err_set(err, ERR_CORRUPT, "%llu blocks do not fill the file",
                       (unsigned long long)*n);
    }
    const int rc = sha256_hex(map->data, HEAD_BYTES + body, checksum, err);
    if (rc == 0 && memcmp(map->data + HEAD_BYTES + body, checksum, CHECKSUM_BYTES) != 0) {
        return err_set(err, ERR_CORRUPT, "the checksum differs");
    }
    return rc;
}

/* False when the block is not to be had: no room, or its parent is not there. */
static bool load_block(struct prefix_cache *c, const uint8_t *bytes, struct prefix_node **nodes,
                       uint64_t i)
{
    struct block_head head;
    struct engine_page *page;
    struct err err = {0};
    memcpy(&head, bytes, sizeof head);
    if (head.n_tokens < 1 || head.n_tokens > PREFIX_BLOCK || head.parent > i ||
        memchr(head.key, '\0', sizeof head.key) == NULL ||
        (head.parent > 0 && nodes[head.parent - 1] == NULL) ||
        prefix_cache_bytes(c) + c->page_bytes > c->bytes_max ||
        engine_page_new(&page, c->model, &err) != 0) {
        return false;
    }
    memcpy(engine_page_bytes(page), bytes + sizeof head, c->page_bytes);
    nodes[i] = prefix_cache_put(c, head.key, head.parent > 0 ? nodes[head.parent - 1] : NULL,
                                head.tokens, (int)head.n_tokens, page);
    return nodes[i] != NULL;
}

int prefix_file_load(struct prefix_cache *c, const char *path, const char *base_key,
                     struct err *err)
{
    struct fs_map map = {0};
    struct prefix_node **nodes = NULL;
    uint64_t n = 0;
    if (!fs_exists(path)) {
        return err_set(err, ERR_NOT_FOUND, "%s is not there", path);
    }
    int rc = fs_map_open(&map, path, err);
    if (rc == 0) {
        rc = check_file(c, &map, base_key, &n, err);
    }
    if (rc == 0) {
        nodes = mem_calloc(n + 1, sizeof(struct prefix_node *));
        rc = nodes != NULL ? 0 : mem_err(err, (n + 1) * sizeof(struct prefix_node *));
    }
    const uint64_t block = sizeof(struct block_head) + c->page_bytes;
    uint64_t loaded = 0;
    while (rc == 0 && loaded < n &&
           load_block(c, map.data + HEAD_BYTES + loaded * block, nodes, loaded)) {
        loaded++;
    }
    while (loaded > 0) {
        prefix_cache_touch(c, nodes[--loaded]);
    }
    mem_free(nodes);
    fs_map_close(&map);
    return rc;
}
