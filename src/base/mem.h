/* Memory: every allocation of the program goes through here.
 *
 * Sizes are overflow-checked, bytes are counted (mem_used), and the fault hook (fault.h) can make
 * the Nth allocation fail. A failed allocation returns NULL and is never fatal; the *_err forms
 * also fill an error. Three lifetimes exist: an arena per request, job or step; owner objects with
 * new/free; read-only maps of files (fs.h). All functions may be called from any thread; an arena
 * belongs to one thread at a time.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { MEM_SIMD_ALIGN = 64 };

/* Uninitialised memory, aligned for any type. size 0 gives a unique pointer. NULL on failure. */
void *mem_alloc(size_t size);
/* Zeroed memory for n items of `size` bytes. NULL on failure or when n × size overflows. */
void *mem_calloc(size_t n, size_t size);
/* Grows or shrinks to n items of `size` bytes; on failure the old block stays valid. */
void *mem_realloc(void *ptr, size_t n, size_t size);
/* Uninitialised memory aligned to MEM_SIMD_ALIGN; freed with mem_free like any other. */
void *mem_alloc_simd(size_t n, size_t size);
/* Advice for a fresh block of many megabytes that will be used all over: few large pages in place
 * of many small ones, where the system has them. */
void mem_large_pages(void *ptr);
void mem_free(void *ptr);
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t length);

/* printf into fresh memory. NULL on failure. */
char *mem_printf(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* Fills err with ERR_NOMEM naming the size that was asked for and the place that asked; returns the
 * code. */
#define mem_err(err, size)                                                                         \
    err_set((err), ERR_NOMEM, "out of memory: %zu bytes were asked for with %zu in use",           \
            (size_t)(size), mem_used())

/* Gives memory that was freed back to the system, where the C library can: after freeing much at
 * once. */
void mem_trim(void);
/* For a process of many threads that each allocate little: few heaps for all of them, where the C
 * library would give each thread one, with free memory of its own. Before the threads start. */
void mem_share_heaps(void);

/* Bytes in use through this interface now, and the highest value seen. */
size_t mem_used(void);
size_t mem_peak(void);

/* --- arena: many small allocations, one release ------------------------------------------- */
struct arena {
    struct arena_block *head;
    size_t used;      /* bytes handed out */
    size_t bytes_max; /* ceiling; 0 = none */
};

void arena_init(struct arena *arena, size_t bytes_max);
/* Zeroed memory, aligned for any type. NULL when out of memory or over the ceiling. */
void *arena_alloc(struct arena *arena, size_t n, size_t size);
char *arena_strdup(struct arena *arena, const char *text);
char *arena_strndup(struct arena *arena, const char *text, size_t length);
char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3);
void arena_clear(struct arena *arena); /* everything handed out is gone; keeps one block */
void arena_release(struct arena *arena);

#endif
