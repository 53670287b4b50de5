/* What came from what, for one model: dataset → job → run → version, and what jobs made of
 * versions. Threads, arenas and errors as registry.h says. */
#ifndef REGISTRY_LINEAGE_H
#define REGISTRY_LINEAGE_H

#include "registry/registry.h"

enum { LINEAGE_JOBS_MAX = 1000 };

struct lineage_node {
    const char *kind;       /* dataset, base, job, run, version, export */
    const char *id;         /* unique within its kind */
    const char *label;      /* for people; a deleted dataset shows its checksum */
    const char *status;     /* of jobs and versions, else NULL */
    const char *checksum;   /* of datasets, bases and versions, else NULL */
    const char *created_at; /* may be NULL */
};
/* from and to are indexes of nodes. */
struct lineage_edge {
    size_t from, to;
};
struct lineage {
    struct lineage_node *nodes;
    size_t n_nodes;
    struct lineage_edge *edges;
    size_t n_edges;
};

/* Everything lives in the arena. Jobs past the newest LINEAGE_JOBS_MAX are left out. */
int registry_lineage(struct registry *registry, const char *model_id, struct arena *arena,
                     struct lineage *out, struct err *err) MUST_CHECK;

#endif
