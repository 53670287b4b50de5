/* One walk over the lora_a of the file; the first part that is met of a whole makes all of it. */
#include "train/export_fused.h"

#include <stdio.h>
#include <string.h>

enum { PARTS = 3, NAME_BYTES = 192 };

struct part {
    const struct tensor_view *a, *b; /* NULL: this one has none */
    uint64_t rows;                   /* of the whole that are its */
};

struct whole {
    const char *parts[PARTS];
    const char *name;
};

static const struct whole wholes[] = {
    {{"q_proj", "k_proj", "v_proj"}, "qkv_proj"},
    {{"gate_proj", "up_proj", NULL}, "gate_up_proj"},
};

static const struct tensor_view *factor(const struct safetensors *file, const char *stem,
                                        size_t n_stem, const char *part, char which)
{
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof name, "%.*s%s.lora_%c", (int)n_stem, stem, part, which);
    return safetensors_tensor(file, name);
}

/* "….q_proj.lora_a" → what it is a part of, and how long the name is before the part. */
static const struct whole *whole_of(const char *name, size_t *stem)
{
    const size_t n = strlen(name);
    for (size_t w = 0; w < sizeof wholes / sizeof wholes[0]; w++) {
        for (int p = 0; p < PARTS && wholes[w].parts[p] != NULL; p++) {
            const size_t m = strlen(wholes[w].parts[p]);
            if (n > m + 7 && memcmp(name + n - 7 - m, wholes[w].parts[p], m) == 0 &&
                name[n - 8 - m] == '.') {
                *stem = n - 7 - m;
                return &wholes[w];
            }
        }
    }
    return NULL;
}

static int find_parts(const struct safetensors *file, const struct model_config *c,
                      const struct whole *whole, const char *name, size_t stem,
                      struct part parts[PARTS], struct err *err)
{
    const bool qkv = whole == &wholes[0];
    const uint64_t kv = (uint64_t)c->n_kv_heads * c->head_dim;
    const uint64_t rows[PARTS] = {qkv ? (uint64_t)c->n_heads * c->head_dim : c->ffn,
                                  qkv ? kv : c->ffn, qkv ? kv : 0};
    for (int p = 0; p < PARTS && whole->parts[p] != NULL; p++) {
        struct part *part = &parts[p];
        part->a = factor(file, name, stem, whole->parts[p], 'a');
        part->b = factor(file, name, stem, whole->parts[p], 'b');
        part->rows = rows[p];
        if ((part->a == NULL) != (part->b == NULL) ||
            (part->a != NULL && (part->a->dims[0] != c->hidden || part->b->dims[1] != rows[p] ||
                                 part->a->dims[1] != part->b->dims[0]))) {
            return err_set(err, ERR_CORRUPT, "the factors of %.*s%s do not fit the base", (int)stem,
                           name, whole->parts[p]);
        }
    }
    return 0;
}

static float *add_view(struct export_fused *f, const char *name, size_t stem, const char *whole,
                       char which, uint64_t rows, uint64_t cols, struct err *err)
{
    struct tensor_view *view = &f->views[f->n];
    const uint64_t bytes = rows * cols * sizeof(float);
    float *values = arena_alloc(&f->arena, (size_t)(rows * cols), sizeof *values);
    *view = (struct tensor_view){.type = TENSOR_F32, .n_dims = 2, .dims = {rows, cols}};
    view->name = arena_printf(&f->arena, "%.*s%s.lora_%c", (int)stem, name, whole, which);
    if (values == NULL || view->name == NULL) {
        (void)mem_err(err, (size_t)bytes);
        return NULL;
    }
    memset(values, 0, (size_t)bytes);
    view->data = (const uint8_t *)(const void *)values;
    view->bytes = bytes;
    f->n++;
    return values;
}

/* Copies a part of (rows, cols) to where it stands in the whole of `width` columns. */
static void place(const struct tensor_view *part, float *whole, uint64_t width, uint64_t row,
                  uint64_t col)
{
    const uint64_t cols = part->dims[1];
    for (uint64_t r = 0; r < part->dims[0]; r++) {
        memcpy(whole + (row + r) * width + col, part->data + r * cols * sizeof(float),
               (size_t)cols * sizeof(float));
    }
}

static int add_whole(struct export_fused *f, const struct whole *whole, const char *name,
                     size_t stem, const struct part parts[PARTS], uint64_t hidden, struct err *err)
{
    uint64_t rank = 0, out = 0, at_rank = 0, at_out = 0;
    int n = 0;
    for (int p = 0; p < PARTS; p++) {
        rank += parts[p].a != NULL ? parts[p].a->dims[1] : 0;
        out += parts[p].rows;
        n += parts[p].a != NULL;
    }
    float *a = add_view(f, name, stem, whole->name, 'a', hidden, rank, err);
    float *b = a != NULL ? add_view(f, name, stem, whole->name, 'b', rank, out, err) : NULL;
    if (b == NULL) {
        return -(int)ERR_NOMEM;
    }
    for (int p = 0; p < PARTS; p++) {
        if (parts[p].a != NULL) {
            place(parts[p].a, a, rank, 0, at_rank);
            place(parts[p].b, b, out, at_rank, at_out);
            at_rank += parts[p].a->dims[1];
        }
        at_out += parts[p].rows;
    }
    *(whole == &wholes[0] ? &f->qkv_parts : &f->gate_up_parts) = n;
    return 0;
}

static bool has_view(const struct export_fused *f, const char *name, size_t stem,
                     const struct whole *whole)
{
    char wanted[NAME_BYTES];
    (void)snprintf(wanted, sizeof wanted, "%.*s%s.lora_a", (int)stem, name, whole->name);
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->views[i].name, wanted) == 0) {
            return true;
        }
    }
    return false;
}

int export_fuse(struct export_fused *fused, const struct safetensors *file,
                const struct model_config *config, struct err *err)
{
    const size_t n = safetensors_tensor_count(file);
    int rc = 0;
    memset(fused, 0, sizeof *fused);
    arena_init(&fused->arena, 0);
    fused->views = arena_alloc(&fused->arena, n, sizeof *fused->views);
    if (fused->views == NULL) {
        return mem_err(err, n * sizeof *fused->views);
    }
    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct tensor_view *view = safetensors_tensor_at(file, i);
        struct part parts[PARTS] = {{.rows = 0}};
        size_t stem = 0;
        const struct whole *whole = config->family->fused ? whole_of(view->name, &stem) : NULL;
        if (whole == NULL) {
            fused->views[fused->n++] = *view;
        } else if (!has_view(fused, view->name, stem, whole)) {
            rc = find_parts(file, config, whole, view->name, stem, parts, err);
            rc = rc == 0 ? add_whole(fused, whole, view->name, stem, parts, config->hidden, err)
                         : rc;
        }
    }
    return rc;
}

void export_fused_release(struct export_fused *fused)
{
    arena_release(&fused->arena);
}
