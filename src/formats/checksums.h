/* A folder's checksum.sha256, as `sha256sum -c` reads it: "<hex>  <name>" a line.
 *
 * Written last, it marks a folder as complete. Names are plain file names of the folder itself.
 */
#ifndef FORMATS_CHECKSUMS_H
#define FORMATS_CHECKSUMS_H

#include "base/err.h"

#define CHECKSUMS_FILE "checksum.sha256"
enum { CHECKSUMS_BYTES_MAX = 1 << 16, CHECKSUMS_FILES_MAX = 256 };

/* Hashes names[0, n) of dir and writes the file. */
int checksums_write(const char *dir, const char *const *names, int n, struct err *err) MUST_CHECK;
/* Hashes every file that is listed. ERR_NOT_FOUND without the list, ERR_CORRUPT naming the file
 * that is missing or has other bytes. */
int checksums_verify(const char *dir, struct err *err) MUST_CHECK;

#endif
