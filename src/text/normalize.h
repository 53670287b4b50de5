/* Unicode NFC as Hugging Face's tokenizers do it, whatever the version of the linked utf8proc. */
#ifndef TEXT_NORMALIZE_H
#define TEXT_NORMALIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* True when the valid UTF-8 text is surely in NFC already, by a look at its bytes. */
bool normalize_is_plain(const char *text, size_t n);
/* Appends the NFC of valid UTF-8. */
int normalize_nfc(const char *text, size_t n, struct buf *out, struct err *err) MUST_CHECK;

#endif
