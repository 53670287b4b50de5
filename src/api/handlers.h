/* Every handler of the hub's API, one file per group, and the bodies they take. ctx is the hub;
 * what each answers is said where its route is (routes.c). */
#ifndef API_HANDLERS_H
#define API_HANDLERS_H

#include "api/support.h"

#define HANDLER(name)                                                                              \
    int name(void *ctx, struct http_request *request, struct http_response *response,              \
             struct err *err)

/* models.c */
extern const struct api_body model_create_body, model_patch_body;
extern const char *const model_sorts[], *const task_types[];
HANDLER(models_create);
HANDLER(models_list);
HANDLER(models_get);
HANDLER(models_patch);
HANDLER(models_delete);
HANDLER(models_history);
HANDLER(models_lineage);

/* versions.c */
extern const struct api_body version_patch_body;
HANDLER(versions_list);
HANDLER(versions_get);
HANDLER(versions_patch);
HANDLER(versions_delete);
extern const struct api_body version_evaluate_body, version_export_body;
HANDLER(versions_evaluate);
HANDLER(versions_reproduce);
HANDLER(versions_export);

/* datasets.c */
extern const struct api_body dataset_create_body;
HANDLER(datasets_create);
HANDLER(datasets_upload);
HANDLER(datasets_list);
HANDLER(datasets_get);
HANDLER(datasets_delete);
HANDLER(datasets_verify);
HANDLER(datasets_check);

/* jobs.c */
extern const struct api_body job_create_body;
extern const char *const job_statuses[];
HANDLER(jobs_create);
HANDLER(jobs_list);
HANDLER(jobs_get);
HANDLER(jobs_cancel);
HANDLER(jobs_resume);
HANDLER(jobs_events);
HANDLER(jobs_metrics);
HANDLER(jobs_logs);
HANDLER(jobs_queue);
HANDLER(jobs_active);
/* 202 with the job that was made. */
struct job_row;
int reply_task(struct http_response *response, const struct job_row *row,
               struct err *err) MUST_CHECK;

/* bases.c */
extern const struct api_body base_import_body, base_quantize_body;
HANDLER(bases_import);
HANDLER(bases_quantize);
HANDLER(bases_list);
HANDLER(bases_get);
HANDLER(bases_delete);

/* pulls.c */
extern const struct api_body base_pull_body;
HANDLER(bases_pull);
HANDLER(bases_search);

/* inference.c */
extern const struct api_body inference_body;
HANDLER(inference_create);
HANDLER(inference_stream);

/* openai_*.c */
extern const struct api_body openai_chat_body, openai_completions_body;
HANDLER(openai_chat);
HANDLER(openai_completions);
HANDLER(openai_models);
HANDLER(openai_model);

/* ollama_*.c */
extern const struct api_body ollama_generate_body, ollama_chat_body, ollama_name_body,
    ollama_copy_body, ollama_create_body, ollama_pull_body;
HANDLER(ollama_generate);
HANDLER(ollama_chat);
HANDLER(ollama_version);
HANDLER(ollama_tags);
HANDLER(ollama_ps);
HANDLER(ollama_show);
HANDLER(ollama_copy);
HANDLER(ollama_delete);
HANDLER(ollama_create);
HANDLER(ollama_pull);
HANDLER(ollama_blob_get);
HANDLER(ollama_blob_put);
HANDLER(ollama_unserved);

/* embeddings.c */
extern const struct api_body openai_embeddings_body, ollama_embed_body;
HANDLER(openai_embeddings);
HANDLER(ollama_embed);
HANDLER(ollama_embeddings);

/* cache.c */
HANDLER(cache_list);
HANDLER(cache_clear);
HANDLER(cache_unload);

/* text.c */
extern const struct api_body tokenize_body, detokenize_body, apply_template_body;
HANDLER(text_tokenize);
HANDLER(text_detokenize);
HANDLER(text_apply_template);

/* health.c */
HANDLER(health_get);
HANDLER(health_live);
HANDLER(health_ready);
HANDLER(health_detailed);

/* metrics.c, config.c, openapi.c */
HANDLER(metrics_get);
HANDLER(config_get);
HANDLER(openapi_get);
HANDLER(docs_get);
HANDLER(root_get);

#endif
