/* How it works. A list of blocks, newest first; allocations are cut from the newest and a new block
 * is made when it is full, each twice the size of the last up to a limit, so a request of any size
 * costs few mallocs and wastes at most about half.
 *
 * 1. `used` counts what was handed out after rounding to the alignment, and never passes bytes_max.
 * 2. Only the head block has free space worth looking at; older ones are never searched.
 */
#include "base/mem.h"

#include <stdalign.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK_BYTES_MIN = 4096, BLOCK_BYTES_MAX = 1 << 20, ARENA_ALIGN = 16 };

struct arena_block {
    struct arena_block *next;
    size_t size;
    size_t used;
    alignas(ARENA_ALIGN) char data[];
};

void arena_init(struct arena *arena, size_t bytes_max)
{
    *arena = (struct arena){.bytes_max = bytes_max};
}

static struct arena_block *grow(struct arena *arena, size_t size)
{
    size_t room = arena->head ? arena->head->size * 2 : BLOCK_BYTES_MIN;
    if (room > BLOCK_BYTES_MAX)
        room = BLOCK_BYTES_MAX;
    if (room < size)
        room = size;
    if (room > SIZE_MAX - sizeof(struct arena_block))
        return NULL;
    struct arena_block *block = mem_alloc(sizeof *block + room);
    if (!block)
        return NULL;
    *block = (struct arena_block){.next = arena->head, .size = room};
    arena->head = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t n, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(n, size, &total) || total > SIZE_MAX - ARENA_ALIGN)
        return NULL;
    total = (total ? total + ARENA_ALIGN - 1 : ARENA_ALIGN) / ARENA_ALIGN * ARENA_ALIGN;
    if (arena->bytes_max && total > arena->bytes_max - arena->used)
        return NULL;
    struct arena_block *block = arena->head;
    if (!block || block->size - block->used < total)
        block = grow(arena, total);
    if (!block)
        return NULL;
    void *ptr = block->data + block->used;
    block->used += total;
    arena->used += total;
    memset(ptr, 0, total);
    return ptr;
}

char *arena_strndup(struct arena *arena, const char *text, size_t length)
{
    if (length == SIZE_MAX)
        return NULL;
    char *copy = arena_alloc(arena, length + 1, 1);
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

char *arena_strdup(struct arena *arena, const char *text)
{
    return arena_strndup(arena, text, strlen(text));
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    char *text = length < 0 ? NULL : arena_alloc(arena, (size_t)length + 1, 1);
    if (!text)
        return NULL;
    va_start(args, fmt);
    vsnprintf(text, (size_t)length + 1, fmt, args);
    va_end(args);
    return text;
}

static void free_blocks(struct arena_block *block)
{
    while (block) {
        struct arena_block *next = block->next;
        mem_free(block);
        block = next;
    }
}

void arena_clear(struct arena *arena)
{
    struct arena_block *keep = arena->head;
    if (keep && keep->size <= BLOCK_BYTES_MAX) {
        free_blocks(keep->next);
        keep->next = NULL;
        keep->used = 0;
    } else {
        free_blocks(keep);
        arena->head = NULL;
    }
    arena->used = 0;
}

void arena_release(struct arena *arena)
{
    free_blocks(arena->head);
    arena->head = NULL;
    arena->used = 0;
}
