/* Taking base models in, for whoever's route it is. */
#ifndef API_BASES_H
#define API_BASES_H

#include "api/hub.h"
#include "http/request.h"
#include "store/base_models.h"

/* Looks at the file or folder in a child, quantises it where that is asked for or the settings say
 * so (quantization NULL), and keeps it as `id`. The row lives in the request's arena. Errors of
 * what was found are ERR_INVALID; others as registry_import_base. */
int base_import(struct hub *hub, struct http_request *request, const char *path, const char *id,
                const char *quantization, struct base_row *row, struct err *err) MUST_CHECK;

#endif
