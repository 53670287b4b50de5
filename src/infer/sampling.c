/* Defaults and bounds in one place, for every interface that offers them. */
#include "infer/sampling.h"

#include <math.h>
#include <string.h>

void infer_sampling_defaults(struct infer_sampling *s)
{
    memset(s, 0, sizeof *s);
    s->max_tokens = 256;
    s->temperature = 0.7f;
    s->top_p = 0.9f;
    s->top_k = 50;
    s->repetition_penalty = 1.1f;
    s->repeat_last_n = 64;
}

static int check_real(const char *name, float value, double low, double high, struct err *err)
{
    if (!isfinite(value) || (double)value < low || (double)value > high) {
        return err_set(err, ERR_UNPROCESSABLE, "%s is %g; it must be between %g and %g", name,
                       (double)value, low, high);
    }
    return 0;
}

static int check_int(const char *name, int value, int low, int high, struct err *err)
{
    if (value < low || value > high) {
        return err_set(err, ERR_UNPROCESSABLE, "%s is %d; it must be between %d and %d", name,
                       value, low, high);
    }
    return 0;
}

int infer_sampling_check(const struct infer_sampling *s, struct err *err)
{
    int rc = check_int("max_tokens", s->max_tokens, 0, INFER_TOKENS_MAX, err);
    if (rc == 0) {
        rc = check_real("temperature", s->temperature, 0.0, 100.0, err);
    }
    if (rc == 0) {
        rc = check_real("top_p", s->top_p, 1e-6, 1.0, err);
    }
    if (rc == 0) {
        rc = check_int("top_k", s->top_k, 0, INT32_MAX, err);
    }
    if (rc == 0) {
        rc = check_real("min_p", s->min_p, 0.0, 0.999, err);
    }
    if (rc == 0) {
        rc = check_real("repetition_penalty", s->repetition_penalty, 0.01, 100.0, err);
    }
    if (rc == 0) {
        rc = check_int("repeat_last_n", s->repeat_last_n, 0, INFER_REPEAT_LAST_MAX, err);
    }
    if (rc == 0) {
        rc = check_real("presence_penalty", s->presence_penalty, -100.0, 100.0, err);
    }
    if (rc == 0) {
        rc = check_real("frequency_penalty", s->frequency_penalty, -100.0, 100.0, err);
    }
    if (rc == 0) {
        rc = check_int("the number of stop sequences", s->n_stops, 0, INFER_STOPS_MAX, err);
    }
    if (rc == 0) {
        rc = check_int("top_logprobs", s->top_logprobs, 0, INFER_TOP_LOGPROBS_MAX, err);
    }
    if (rc == 0) {
        rc = check_int("the number of biased tokens", s->n_bias, 0, INFER_BIAS_MAX, err);
    }
    for (int i = 0; rc == 0 && i < s->n_bias; i++) {
        rc = check_real("a logit's bias", s->bias[i].bias, -1000.0, 1000.0, err);
    }
    for (int i = 0; rc == 0 && i < s->n_stops; i++) {
        if (s->stops[i][0] == '\0') {
            rc = err_set(err, ERR_UNPROCESSABLE, "stop sequence %d is empty", i);
        }
    }
    return rc;
}
