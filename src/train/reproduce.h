/* Training a version again from its manifest, and comparing byte for byte.
 *
 * Everything that the manifest names is looked at first: numerics version, engine, base, dataset,
 * validation set and first adapter by their SHA-256. When one of them differs nothing is trained,
 * since the bytes could not come out the same, and the answer says which. Else the version is
 * trained in a scratch folder, whose checkpoints make a stopped reproduction go on, and the two
 * adapters and manifests are compared.
 */
#ifndef TRAIN_REPRODUCE_H
#define TRAIN_REPRODUCE_H

#include "base/json.h"
#include "train/train.h"

enum { REPRODUCE_DIFFERENCES_MAX = 16, REPRODUCE_LINE_BYTES = 512 };

struct reproduce_spec {
    const char *version_dir; /* published; its manifest says what to do */
    const char *base_path;   /* as it is now; this and the next three NULL: it is gone */
    const char *dataset_path;
    const char *validation_path;   /* looked at only when the manifest names a validation set */
    const char *init_adapter_path; /* the same for a first adapter */
    const char *scratch_dir;       /* made when missing; the caller removes it */
    const char *source_revision;   /* of this program, or NULL */
    int threads;
    const char *isa;
    uint64_t memory_bytes_max;
};

struct reproduce_result {
    bool pass;
    char expected[SHA256_HEX_BYTES]; /* of adapter.safetensors, by the manifest */
    char actual[SHA256_HEX_BYTES];   /* of the one trained again; "" = it was not */
    int n_differences;
    char differences[REPRODUCE_DIFFERENCES_MAX][REPRODUCE_LINE_BYTES];
    int64_t steps;
    double seconds;
};

/* 0 whether it passes or not; errors are those of train_run and of an unreadable manifest. */
int train_reproduce(const struct reproduce_spec *spec, const struct train_hooks *hooks,
                    struct reproduce_result *result, struct err *err) MUST_CHECK;
/* The members of an object that the caller has opened: "pass", "expected", "actual",
 * "differences": ["…"], "steps", "seconds". */
void reproduce_result_write(const struct reproduce_result *result, struct json_out *out);

#endif
