/* The engine: everything above this line thinks in tokens, logits and adapters, never in tensors.
 *
 *   model     weights of one base, read-only after open, shared by all that follows
 *   adapter   LoRA factors over one base; any number of them; immutable while sessions use it,
 *             writable only through a trainer
 *   session   one token timeline: a table of pages of keys and values from the model's pool
 *   page      of ENGINE_KV_PAGE_TOKENS positions, counted by its users; written while it has one
 *   eval      a batch of pieces of several sessions → logits
 *   trainer   activations and gradients for train steps over one adapter
 *
 * Threads: a model and all that hangs on it belong to one thread (the runner's or the worker's);
 * compute threads are inside. Answers depend on tokens, adapter and numerics version only: never on
 * thread count, batch mates, chunking of the prompt or instruction set.
 * Failure: a failed eval leaves every session as it was before the call. Non-finite values are
 * ERR_INVALID, never a result.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/tokenizer.h"

enum {
    ENGINE_NUMERICS_VERSION = 1,  /* raised whenever a rule that shapes results changes */
    ENGINE_PIECES_MAX = 64,       /* sessions in one eval */
    ENGINE_EVAL_TOKENS_MAX = 512, /* tokens in one eval, all pieces together */
    ENGINE_KV_PAGE_TOKENS = 16,
    ENGINE_EOS_MAX = 16
};

struct engine_model;
struct engine_adapter;
struct engine_session;
struct engine_page;
struct engine_trainer;

/* --- model ---------------------------------------------------------------------------------- */
struct engine_options {
    int threads;           /* 0 = all cores */
    const char *isa;       /* "best", "ref", "avx2", "avx512", "neon" */
    size_t kv_bytes_max;   /* ceiling of all sessions' KV pages; 0 = one session at full context */
    int context_length;    /* 0 = the model's, at most 8192 */
    const char *cache_dir; /* where packed weights of blobs are kept; NULL = nowhere */
    bool train_only;       /* no sessions: what only they need, packed weights first, is left out */
};

struct engine_info {
    char engine[16];       /* "native" */
    char isa[16];          /* the instruction set in use */
    char architecture[32]; /* the family: "llama" */
    char quantization[16]; /* label of the file: "Q4_1" */
    int threads;
    int n_layers, n_heads, n_kv_heads, head_dim, d_model, d_ffn;
    int vocab_size;          /* rows of the output matrix: length of a logits row */
    int context_length;      /* longest session, in tokens */
    int context_trained;     /* what the model file says */
    bool qk_norm, post_norm; /* norms whose inputs training keeps */
    int eos[ENGINE_EOS_MAX];
    int n_eos;
    uint64_t n_parameters;
    uint64_t weight_bytes;  /* memory held by weights, packed */
    uint64_t kv_page_bytes; /* one page: ENGINE_KV_PAGE_TOKENS tokens, all layers */
};

/* Opens a GGUF file or a folder of safetensors. Errors: what formats reports, ERR_UNSUPPORTED for
 * an architecture or tensor type outside the table, ERR_NOMEM. */
int engine_model_open(struct engine_model **model, const char *path,
                      const struct engine_options *options, struct err *err) MUST_CHECK;
void engine_model_free(struct engine_model *model); /* NULL is fine; sessions and adapters first */
const struct engine_info *engine_model_info(const struct engine_model *model);
/* Owned by the model; NULL when the file carries no tokenizer. */
const struct tokenizer *engine_model_tokenizer(const struct engine_model *model);
/* The chat template's source as the file has it, or NULL. */
const char *engine_model_template(const struct engine_model *model);
/* The one for requests with tools, where the file has such a one apart, or NULL. */
const char *engine_model_tool_template(const struct engine_model *model);

/* Bytes that opening `path` and one full session would take, without loading weights. */
struct engine_estimate {
    uint64_t weight_bytes;
    uint64_t kv_bytes_per_token;
    uint64_t workspace_bytes;
    struct engine_info info; /* as engine_model_info would say, but for isa and weight_bytes */
};
/* threads as in engine_options. */
int engine_estimate_open(const char *path, int threads, struct engine_estimate *estimate,
                         struct err *err) MUST_CHECK;

/* --- adapters ------------------------------------------------------------------------------- */
enum engine_target { /* linear layers that an adapter may sit on */
                     ENGINE_Q_PROJ,
                     ENGINE_K_PROJ,
                     ENGINE_V_PROJ,
                     ENGINE_O_PROJ,
                     ENGINE_GATE_PROJ,
                     ENGINE_UP_PROJ,
                     ENGINE_DOWN_PROJ,
                     ENGINE_TARGET_COUNT
};
const char *engine_target_name(enum engine_target target); /* "q_proj" */

struct engine_lora {
    int rank;         /* 1–256 */
    float scale;      /* alpha / rank, or alpha / sqrt(rank) */
    unsigned targets; /* bit set of 1 << enum engine_target */
    int first_layer;  /* adapters sit on layers first_layer … n_layers-1 */
};

/* One LoRA factor as fp32, row-major. A is (rank, in), B is (out, rank): y = Wx + scale · B(Ax).
 * Rows and columns are in Hugging Face order, whatever order the base file has. */
struct engine_tensor {
    char name[96]; /* "model.layers.3.self_attn.q_proj.lora_a" or "….lora_b" */
    int rows, cols;
    float *data; /* owned by the adapter */
};

/* A fresh adapter: A from U(-1/sqrt(in), 1/sqrt(in)) by Philox (RNG_INIT), B zero. */
int engine_adapter_new(struct engine_adapter **adapter, struct engine_model *model,
                       const struct engine_lora *lora, uint64_t seed, struct err *err) MUST_CHECK;
void engine_adapter_free(struct engine_adapter *adapter);
const struct engine_lora *engine_adapter_lora(const struct engine_adapter *adapter);
/* All factors sorted by name (byte order). The array is owned by the adapter. After writing to the
 * data call engine_adapter_changed before the next eval. */
struct engine_tensor *engine_adapter_tensors(struct engine_adapter *adapter, int *n);
void engine_adapter_changed(struct engine_adapter *adapter);

/* --- sessions ------------------------------------------------------------------------------- */
int engine_session_new(struct engine_session **session, struct engine_model *model,
                       struct err *err) MUST_CHECK;
void engine_session_free(struct engine_session *session);        /* its pages return to the pool */
int engine_session_length(const struct engine_session *session); /* tokens held */
/* Forgets all tokens from position n on. */
void engine_session_truncate(struct engine_session *session, int n);
/* A session with the first n tokens of another: pages are shared; the one that both would write
 * into is copied by the first that does. */
int engine_session_fork(struct engine_session **session, const struct engine_session *from, int n,
                        struct err *err) MUST_CHECK;
/* Pages that appending n_tokens will take from the pool. */
size_t engine_session_pages_needed(const struct engine_session *session, int n_tokens);

/* --- pages ---------------------------------------------------------------------------------- */
/* What a page holds depends on the adapter and all tokens up to its end, so it may stand in any
 * session that begins with those. Each user gives it back once. */
size_t engine_pages_max(const struct engine_model *model);  /* in use at once */
size_t engine_pages_used(const struct engine_model *model); /* by sessions and keepers together */
/* Another ceiling, in bytes, at any time: free pages beyond it go back to the system, and none is
 * taken until fewer are in use. */
void engine_pages_limit(struct engine_model *model, size_t kv_bytes_max);
/* Page i of a session, with one user more: the caller. */
struct engine_page *engine_session_page(const struct engine_session *session, int i);
void engine_page_release(struct engine_model *model, struct engine_page *page);
int engine_page_users(const struct engine_page *page);
/* Appends the first n_tokens positions of a page, of which the session becomes one more user. The
 * session ends at a page's boundary and has room. */
void engine_session_append(struct engine_session *session, struct engine_page *page, int n_tokens);
/* Stands page i of a session, which is full, on another that was computed of the same tokens behind
 * the same ones: the same bits, held once. */
void engine_session_stand_on(struct engine_session *session, int i, struct engine_page *page);
/* A page to be filled with kv_page_bytes that were kept elsewhere. ERR_UNAVAILABLE when all pages
 * are in use. */
int engine_page_new(struct engine_page **page, struct engine_model *model,
                    struct err *err) MUST_CHECK;
void *engine_page_bytes(struct engine_page *page);

struct engine_piece {
    struct engine_session *session;
    const struct engine_adapter *adapter; /* NULL = the bare base */
    const int32_t *tokens;                /* appended to the session */
    int n_tokens;                         /* ≥ 1 */
    float *logits; /* rows of vocab_size: one for the last token, or all n_tokens; NULL = none */
    bool all_logits;
    float *hidden; /* rows of d_model, all n_tokens: the last norm's outputs; NULL = none */
};

/* Appends every piece's tokens and computes the logits asked for. ERR_UNAVAILABLE when KV pages run
 * out (both numbers), ERR_INVALID for a token outside the vocabulary or past the context. */
int engine_eval(struct engine_model *model, struct engine_piece *pieces, int n_pieces,
                struct err *err) MUST_CHECK;

/* Logits of one row to probabilities in place: exact maximum, sum by token id mod 16. ERR_INVALID
 * when a logit is not finite. */
int engine_softmax(const struct engine_model *model, float *logits, struct err *err) MUST_CHECK;
/* log p of token `id` under a row of logits; the row must be finite. */
float engine_log_probability(const struct engine_model *model, const float *logits, int32_t id);

/* --- training ------------------------------------------------------------------------------- */
/* One row of a micro-step. targets[i] != 0 means: token i is to be predicted from tokens before it
 * (i ≥ 1). Attention stays inside the row; positions count from 0. */
struct engine_row {
    const int32_t *tokens;
    const uint8_t *targets;
    int n_tokens;
    uint32_t row_in_step; /* for dropout's draws */
};

struct engine_train_plan {
    int tokens_max; /* most tokens of one micro-step, all rows together */
    float dropout;  /* on the adapter's input, 0 ≤ p < 1 */
    uint64_t seed;
};

/* Loss carried over micro-steps: sixteen lanes indexed by the target's ordinal in the optimizer
 * step, summed by the reduction rule at the end. Zero at the start of a step. */
struct engine_loss {
    float lanes[16];
    uint64_t n_targets;
};
float engine_loss_sum(const struct engine_loss *loss);

/* Bytes a trainer would hold, known before anything is allocated. */
int engine_trainer_estimate(const struct engine_model *model, const struct engine_lora *lora,
                            const struct engine_train_plan *plan, uint64_t *bytes,
                            struct err *err) MUST_CHECK;
/* The same for a model that is not open: of engine_estimate_open, with info.threads as it will be.
 */
int engine_trainer_estimate_info(const struct engine_info *info, const struct engine_lora *lora,
                                 const struct engine_train_plan *plan, uint64_t *bytes,
                                 struct err *err) MUST_CHECK;
/* Allocates everything; steps allocate nothing. The adapter must outlive the trainer. */
int engine_trainer_new(struct engine_trainer **trainer, struct engine_model *model,
                       struct engine_adapter *adapter, const struct engine_train_plan *plan,
                       struct err *err) MUST_CHECK;
void engine_trainer_free(struct engine_trainer *trainer);

/* Sets all gradients to zero: the start of an optimizer step. */
void engine_trainer_zero(struct engine_trainer *trainer);
/* Forward and backward of one micro-step: adds each target's -log p to loss, and to the gradients
 * of the adapter the gradient of inverse_targets · Σ -log p, carried on in one FMA chain per
 * element over tokens in (row, position) order. `step` feeds dropout. ERR_INVALID "NaN/Inf …" when
 * a value is not finite. */
int engine_train_step(struct engine_trainer *trainer, const struct engine_row *rows, int n_rows,
                      uint64_t step, float inverse_targets, struct engine_loss *loss,
                      struct err *err) MUST_CHECK;
/* Forward only, same arithmetic, no dropout: validation. */
int engine_eval_loss(struct engine_trainer *trainer, const struct engine_row *rows, int n_rows,
                     struct engine_loss *loss, struct err *err) MUST_CHECK;
/* Gradients beside engine_adapter_tensors: same order, same shapes. Owned by the trainer. */
float *const *engine_trainer_gradients(struct engine_trainer *trainer);

#endif
