/* Columns that hold JSON were checked when they were written and go out as they are. */
#include "api/rows_json.h"

#include <string.h>

void json_model(struct json_out *out, const struct model_row *row)
{
    json_out_object(out);
    json_out_kv_string(out, "id", row->id);
    json_out_kv_string(out, "name", row->name);
    json_out_kv_string(out, "task_type", task_type_name(row->task_type));
    json_out_kv_string(out, "description", row->description);
    json_out_kv_string(out, "base_model", row->base_model);
    json_out_kv_raw(out, "tags", row->tags);
    json_out_kv_string(out, "mlflow_experiment_id", row->mlflow_experiment_id);
    json_out_kv_string(out, "created_at", row->created_at);
    json_out_kv_string(out, "updated_at", row->updated_at);
    json_out_kv_int(out, "version_count", row->version_count);
    json_out_object_end(out);
}

void json_version(struct json_out *out, const struct version_row *row)
{
    json_out_object(out);
    json_out_kv_string(out, "id", row->id);
    json_out_kv_string(out, "model_id", row->model_id);
    json_out_kv_string(out, "version", row->version);
    json_out_kv_int(out, "number", row->number);
    json_out_kv_string(out, "status", version_status_name(row->status));
    json_out_kv_raw(out, "metrics", row->metrics);
    json_out_kv_raw(out, "evaluations", row->evaluations);
    json_out_kv_string(out, "notes", row->notes);
    json_out_kv_string(out, "artifact_path", row->artifact_path);
    json_out_kv_string(out, "checksum", row->checksum);
    json_out_kv_string(out, "mlflow_run_id", row->mlflow_run_id);
    json_out_key(out, "aliases");
    json_out_array(out);
    for (size_t i = 0; i < row->n_aliases; i++) {
        json_out_string(out, row->aliases[i]);
    }
    json_out_array_end(out);
    json_out_kv_string(out, "created_at", row->created_at);
    json_out_object_end(out);
}

void json_dataset(struct json_out *out, const struct dataset_record *row)
{
    json_out_object(out);
    json_out_kv_string(out, "id", row->id);
    json_out_kv_string(out, "name", row->name);
    json_out_kv_string(out, "path", row->path);
    json_out_kv_string(out, "checksum", row->checksum);
    json_out_kv_raw(out, "schema_info", row->schema_info);
    json_out_kv_int(out, "rows", row->rows);
    json_out_kv_string(out, "created_at", row->created_at);
    json_out_object_end(out);
}

void json_job_progress(struct json_out *out, const struct job_progress *p)
{
    json_out_object(out);
    json_out_kv_int(out, "step", p->step);
    json_out_kv_int(out, "steps", p->steps);
    json_out_kv_real(out, "epoch", p->epoch);
    json_out_kv_real(out, "loss", p->loss);
    json_out_kv_real(out, "val_loss", p->val_loss);
    json_out_kv_real(out, "learning_rate", p->learning_rate);
    json_out_kv_real(out, "tokens_per_second", p->tokens_per_second);
    json_out_kv_int(out, "memory_bytes", p->memory_bytes);
    json_out_kv_real(out, "eta_seconds", p->eta_seconds);
    json_out_kv_real(out, "bytes_per_second", p->bytes_per_second);
    json_out_object_end(out);
}

void json_job(struct json_out *out, const struct job_row *row)
{
    json_out_object(out);
    json_out_kv_string(out, "id", row->id);
    json_out_kv_string(out, "kind", job_kind_name(row->kind));
    json_out_kv_string(out, "model_id", row->model_id);
    json_out_kv_string(out, "dataset_id", row->dataset_id);
    json_out_kv_string(out, "model_version_id", row->model_version_id);
    json_out_kv_string(out, "status", job_status_name(row->status));
    json_out_kv_raw(out, "config", row->config);
    json_out_kv_string(out, "error_message", row->error_message);
    json_out_kv_string(out, "waiting_for", row->waiting_for);
    json_out_kv_string(out, "resumed_from", row->resumed_from);
    json_out_kv_string(out, "created_at", row->created_at);
    json_out_kv_string(out, "started_at", row->started_at);
    json_out_kv_string(out, "completed_at", row->completed_at);
    json_out_kv_string(out, "heartbeat_at", row->heartbeat_at);
    json_out_key(out, "progress");
    json_job_progress(out, &row->progress);
    json_out_kv_raw(out, "result", row->result != NULL ? row->result : "null");
    json_out_object_end(out);
}

uint64_t base_memory_bytes(const struct base_row *row)
{
    struct err err = {0};
    int64_t bytes = 0;
    json_t *details = json_parse(row->details, strlen(row->details), &err);
    if (details == NULL || json_get_int(details, "memory_bytes", 0, &bytes, &err) != 0 ||
        bytes <= 0) {
        bytes = row->bytes;
    }
    json_decref(details);
    return (uint64_t)bytes;
}

void json_base(struct json_out *out, const struct base_row *row, uint64_t memory_max)
{
    const uint64_t memory = base_memory_bytes(row);
    json_out_object(out);
    json_out_kv_string(out, "id", row->id);
    json_out_kv_string(out, "format", row->format);
    json_out_kv_string(out, "architecture", row->architecture);
    json_out_kv_int(out, "parameters", row->parameters);
    json_out_kv_string(out, "quantization", row->quantisation);
    json_out_key(out, "context_length");
    if (row->context_length > 0) {
        json_out_int(out, row->context_length);
    } else {
        json_out_null(out);
    }
    json_out_kv_int(out, "bytes", row->bytes);
    json_out_kv_string(out, "sha256", row->sha256);
    json_out_kv_string(out, "source", row->source);
    json_out_key(out, "memory_bytes");
    json_out_uint(out, memory);
    json_out_kv_bool(out, "fits", memory <= memory_max);
    json_out_kv_string(out, "created_at", row->created_at);
    json_out_object_end(out);
}
