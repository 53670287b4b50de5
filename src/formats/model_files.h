/* Weights as they came: a GGUF file, or a folder of safetensors, behind one face.
 *
 * model_files_open maps the weights read-only, reads what describes them, and checks that every
 * tensor the architecture needs is there, in the right shape and in a type the engine computes
 * with. Tensors are found by one set of names, Hugging Face's, whatever the container:
 *
 *     model.embed_tokens.weight                            [vocab, hidden]
 *     model.layers.N.input_layernorm.weight                [hidden]; not NORM_AFTER
 *     model.layers.N.self_attn.{q,k,v,o}_proj.weight       [n_heads·head_dim, hidden],
 *                                                          [n_kv_heads·head_dim, hidden] twice,
 *                                                          [hidden, n_heads·head_dim]
 *     model.layers.N.self_attn.{q,k}_norm.weight           [head_dim] with QK_NORM_HEAD, else one
 *                                                          weight for each row of the projection
 *     model.layers.N.post_attention_layernorm.weight       [hidden]
 *     model.layers.N.pre_feedforward_layernorm.weight      [hidden]; NORM_AROUND only
 *     model.layers.N.post_feedforward_layernorm.weight     [hidden]; not NORM_BEFORE
 *     model.layers.N.mlp.{gate,up,down}_proj.weight        [ffn, hidden] twice, [hidden, ffn]
 *     model.norm.weight                                    [hidden]
 *     lm_head.weight                                       [vocab, hidden]; not when tied
 *     rope_freqs.weight                                    [rope_dim/2]; ROPE_SCALING_FACTORS only
 *
 * with .bias beside .weight where config.attention_bias, output_bias or mlp_bias says so. Norms and
 * biases are F32, F16 or BF16. Where a file fuses projections (phi3), their parts are views of its
 * rows. post_attention_layernorm stands before the feed-forward with NORM_BEFORE, and on
 * attention's way out otherwise.
 *
 * Everything handed out is borrowed until model_files_free. Read-only after open: any number of
 * threads may read. Errors: ERR_NOT_FOUND for a missing file, ERR_UNSUPPORTED for an architecture,
 * type or feature that is not served, ERR_CORRUPT for everything malformed, missing or misshapen.
 */
#ifndef FORMATS_MODEL_FILES_H
#define FORMATS_MODEL_FILES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "formats/gguf.h"
#include "formats/model_config.h"
#include "formats/tensor_view.h"

enum {
    MODEL_TENSOR_NAME_BYTES = 128,
    MODEL_JSON_BYTES_MAX = 4 << 20, /* config.json, generation_config.json */
    MODEL_TOKENIZER_CONFIG_BYTES_MAX = 32 << 20,
    MODEL_TEMPLATE_BYTES_MAX = 1 << 20,
};

enum model_container { MODEL_GGUF, MODEL_SAFETENSORS };

struct model_files;

/* path: a GGUF file (by its content, whatever its name); a .safetensors file or its .index.json,
 * with config.json beside it; or a folder with config.json and model.safetensors or
 * model.safetensors.index.json; or a folder with exactly one .gguf file and no config.json. */
int model_files_open(const char *path, struct model_files **files, struct err *err) MUST_CHECK;
void model_files_free(struct model_files *files); /* NULL is fine */

enum model_container model_files_container(const struct model_files *files);
const struct model_config *model_files_config(const struct model_files *files);

/* --- tensors --- */
/* All tensors of the file under their canonical names; those that the architecture does not know
 * keep their own. */
size_t model_files_tensor_count(const struct model_files *files);
const struct tensor_view *model_files_tensor_at(const struct model_files *files, size_t i);
/* By canonical name; NULL when there is none. Never NULL for what the table above demands. */
const struct tensor_view *model_files_tensor(const struct model_files *files, const char *name);
/* "model.layers.<layer>.<part>", for example part "self_attn.q_proj.weight". */
const struct tensor_view *model_files_layer_tensor(const struct model_files *files, uint32_t layer,
                                                   const char *part);

/* True when the rows of q_proj and k_proj (weights and biases) stand in GGUF's order, made for a
 * rope that rotates neighbours. Hugging Face rotates row i of a head with row i + head_dim/2; GGUF
 * stores those two side by side:
 *
 *     HF row    h·head_dim + j·head_dim/2 + i     (j = 0, 1;  0 ≤ i < head_dim/2)
 *     GGUF row  h·head_dim + 2·i + j
 */
bool model_files_rope_permuted(const struct model_files *files);
/* The GGUF row that holds Hugging Face's row `row` of a q or k projection. */
uint32_t model_rope_gguf_row(uint32_t row, uint32_t head_dim);

/* GGUF's name of a tensor with a canonical name (of fused projections, "….qkv_proj.weight" and
 * "….gate_up_proj.weight" are known, too); false where it has none. */
bool model_gguf_name(const struct architecture *family, const char *name,
                     char out[MODEL_TENSOR_NAME_BYTES]);

/* --- facts --- */
/* Bytes and elements of the tensors the architecture uses (tied embeddings once). */
uint64_t model_files_weight_bytes(const struct model_files *files);
uint64_t model_files_parameters(const struct model_files *files);
/* Bytes of all weight files on disk. */
uint64_t model_files_file_bytes(const struct model_files *files);
/* The type that most elements of the layers' matrices have: "Q4_1". Static. */
const char *model_files_quantisation(const struct model_files *files);

/* --- text --- */
/* The chat template's source, NUL-terminated UTF-8, or NULL when the model brings none. From GGUF's
 * tokenizer.chat_template, or chat_template.jinja, or tokenizer_config.json (where several are
 * named there: the one named "default"). */
const char *model_files_chat_template(const struct model_files *files);
/* The one to take where tools are given, when the model has such: GGUF's
 * tokenizer.chat_template.tool_use, or the one that tokenizer_config.json names "tool_use". */
const char *model_files_tool_template(const struct model_files *files);
/* Where the tokenizer comes from: GGUF metadata (NULL for safetensors) … */
const struct gguf *model_files_gguf(const struct model_files *files);
/* … or the path of tokenizer.json (NULL for GGUF and when there is none), */
const char *model_files_tokenizer_path(const struct model_files *files);
/* or where that is missing the path of tokenizer.model (or NULL), with added_tokens.json's object
 * ({"text": id, …}) or NULL, borrowed; */
const char *model_files_sentencepiece_path(const struct model_files *files);
const json_t *model_files_added_tokens(const struct model_files *files);
/* with tokenizer_config.json's object (bos_token, add_bos_token, …), or NULL. Borrowed. */
const json_t *model_files_tokenizer_config(const struct model_files *files);

#endif
