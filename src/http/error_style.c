#include "http/error_style.h"

#include <stdio.h>
#include <string.h>

static void begin(struct http_response *response, int status, struct json_out *out)
{
    response->status = status;
    response->content_type = "application/json";
    json_out_init(out, &response->body);
}

void http_error_hub(struct http_response *response, const struct err *err)
{
    int status = err_http_status((int)err->code);
    struct json_out out;

    begin(response, status, &out);
    json_out_object(&out);
    if (status == 422) {
        json_out_key(&out, "detail");
        json_out_array(&out);
        json_out_object(&out);
        json_out_kv_raw(&out, "loc", "[\"body\"]");
        json_out_kv_string(&out, "msg", err->message);
        json_out_kv_string(&out, "type", "value_error");
        json_out_object_end(&out);
        json_out_array_end(&out);
    } else {
        json_out_kv_string(&out, "detail", err->message);
    }
    json_out_object_end(&out);
}

/* 422 is the hub's own refinement of 400. */
static int status_without_422(const struct err *err)
{
    int status = err_http_status((int)err->code);
    return status == 422 ? 400 : status;
}

static const char *openai_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 501:
        return "not_supported_error";
    case 503:
        return "unavailable_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

void http_error_openai(struct http_response *response, const struct err *err)
{
    int status = status_without_422(err);
    struct json_out out;

    begin(response, status, &out);
    json_out_object(&out);
    json_out_key(&out, "error");
    json_out_object(&out);
    json_out_kv_int(&out, "code", status);
    json_out_kv_string(&out, "message", err->message);
    json_out_kv_string(&out, "type", openai_type(status));
    json_out_object_end(&out);
    json_out_object_end(&out);
}

void http_error_ollama(struct http_response *response, const struct err *err)
{
    struct json_out out;

    begin(response, status_without_422(err), &out);
    json_out_object(&out);
    json_out_kv_string(&out, "error", err->message);
    json_out_object_end(&out);
}

void http_error_mlflow(struct http_response *response, const struct err *err)
{
    int status = err_http_status((int)err->code);
    const char *code = "INTERNAL_ERROR";
    struct json_out out;

    switch (status) {
    case 400:
    case 413:
    case 415:
    case 422:
        code = "INVALID_PARAMETER_VALUE";
        status = status == 413 ? 413 : 400;
        break;
    case 401:
        code = "UNAUTHENTICATED";
        break;
    case 403:
        code = "PERMISSION_DENIED";
        break;
    case 404:
        code = "RESOURCE_DOES_NOT_EXIST";
        break;
    case 405:
        code = "ENDPOINT_NOT_FOUND";
        break;
    case 409:
        code = "RESOURCE_ALREADY_EXISTS";
        status = 400;
        break;
    case 429:
        code = "REQUEST_LIMIT_EXCEEDED";
        break;
    case 503:
        code = "TEMPORARILY_UNAVAILABLE";
        break;
    default:
        break;
    }
    begin(response, status, &out);
    json_out_object(&out);
    json_out_kv_string(&out, "error_code", code);
    json_out_kv_string(&out, "message", err->message);
    json_out_object_end(&out);
}

void http_reply_error(struct http_response *response, http_error_style style, const struct err *err)
{
    buf_clear(&response->body);
    response->n_headers = 0;
    (style ? style : http_error_hub)(response, err);
    if (response->status == 401)
        response->headers[response->n_headers++] = (struct http_pair){"WWW-Authenticate", "Bearer"};
    if (response->status == 429 || response->status == 503)
        response->headers[response->n_headers++] = (struct http_pair){"Retry-After", "1"};
}
