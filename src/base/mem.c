/* How it works. Every block starts with a head of 16 bytes in front of the pointer that the caller
 * gets: the size it asked for (for the count) and how far back the real block begins (16, or 64 for
 * SIMD blocks), so one mem_free serves both.
 *
 *   malloc'd block:  [pad][size | offset | magic][caller's bytes …]
 *                     <------- offset ----------->
 *
 * 1. used = sum of the sizes in all live heads; peak >= used at all times.
 * 2. The magic is a promise of ours (only our pointers come back), so it is asserted.
 * 3. Every function asks fault_hit(FAULT_MALLOC) exactly once per block that it may allocate.
 */
#include "base/mem.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/fault.h"

enum { HEAD_BYTES = 16, HEAD_MAGIC = 0x4d4c5848 };

struct block_head {
    size_t size;
    uint32_t offset;
    uint32_t magic;
};
_Static_assert(sizeof(struct block_head) == HEAD_BYTES, "head keeps malloc's alignment");

static _Atomic(size_t) used;
static _Atomic(size_t) peak;

static void count_add(size_t size)
{
    size_t now = atomic_fetch_add_explicit(&used, size, memory_order_relaxed) + size;
    size_t high = atomic_load_explicit(&peak, memory_order_relaxed);
    while (now > high && !atomic_compare_exchange_weak_explicit(
                             &peak, &high, now, memory_order_relaxed, memory_order_relaxed)) {
    }
}

static void count_sub(size_t size)
{
    atomic_fetch_sub_explicit(&used, size, memory_order_relaxed);
}

static struct block_head *head_of(void *ptr)
{
    struct block_head *head = (struct block_head *)((char *)ptr - HEAD_BYTES);
    assert(head->magic == HEAD_MAGIC);
    return head;
}

static void *finish(char *base, size_t offset, size_t size)
{
    if (!base)
        return NULL;
    struct block_head *head = (struct block_head *)(base + offset - HEAD_BYTES);
    head->size = size;
    head->offset = (uint32_t)offset;
    head->magic = HEAD_MAGIC;
    count_add(size);
    return base + offset;
}

void *mem_alloc(size_t size)
{
    if (fault_hit(FAULT_MALLOC) || size > SIZE_MAX - HEAD_BYTES)
        return NULL;
    return finish(malloc(size + HEAD_BYTES), HEAD_BYTES, size);
}

void *mem_calloc(size_t n, size_t size)
{
    size_t total;
    if (fault_hit(FAULT_MALLOC) || __builtin_mul_overflow(n, size, &total) ||
        total > SIZE_MAX - HEAD_BYTES)
        return NULL;
    return finish(calloc(1, total + HEAD_BYTES), HEAD_BYTES, total);
}

static void *simd_block(size_t total)
{
    if (total > SIZE_MAX - 2 * (size_t)MEM_SIMD_ALIGN)
        return NULL;
    void *base = NULL;
    if (posix_memalign(&base, MEM_SIMD_ALIGN, total + MEM_SIMD_ALIGN) != 0)
        return NULL;
    return finish(base, MEM_SIMD_ALIGN, total);
}

void *mem_alloc_simd(size_t n, size_t size)
{
    size_t total;
    if (fault_hit(FAULT_MALLOC) || __builtin_mul_overflow(n, size, &total))
        return NULL;
    return simd_block(total);
}

void *mem_realloc(void *ptr, size_t n, size_t size)
{
    size_t total;
    if (fault_hit(FAULT_MALLOC) || __builtin_mul_overflow(n, size, &total) ||
        total > SIZE_MAX - HEAD_BYTES)
        return NULL;
    if (!ptr)
        return finish(malloc(total + HEAD_BYTES), HEAD_BYTES, total);
    struct block_head *head = head_of(ptr);
    size_t old = head->size;
    if (head->offset == HEAD_BYTES) {
        char *base = realloc(head, total + HEAD_BYTES);
        if (base)
            count_sub(old);
        return finish(base, HEAD_BYTES, total);
    }
    void *moved = simd_block(total);
    if (!moved)
        return NULL;
    memcpy(moved, ptr, old < total ? old : total);
    mem_free(ptr);
    return moved;
}

void mem_large_pages(void *ptr)
{
#ifdef MADV_HUGEPAGE
    const uintptr_t page = (uintptr_t)1 << 21;
    const uintptr_t begin = ((uintptr_t)ptr + page - 1) & ~(page - 1);
    const uintptr_t end = ((uintptr_t)ptr + head_of(ptr)->size) & ~(page - 1);
    if (begin < end)
        (void)madvise((char *)ptr + (begin - (uintptr_t)ptr), end - begin, MADV_HUGEPAGE);
#else
    (void)ptr;
#endif
}

void mem_free(void *ptr)
{
    if (!ptr)
        return;
    struct block_head *head = head_of(ptr);
    count_sub(head->size);
    head->magic = 0;
    free((char *)ptr - head->offset);
}

void mem_trim(void)
{
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

void mem_share_heaps(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_ARENA_MAX, 2);
#endif
}

char *mem_strndup(const char *text, size_t length)
{
    if (length == SIZE_MAX)
        return NULL;
    char *copy = mem_alloc(length + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}

char *mem_printf(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (length < 0)
        return NULL;
    char *text = mem_alloc((size_t)length + 1);
    if (!text)
        return NULL;
    va_start(args, fmt);
    vsnprintf(text, (size_t)length + 1, fmt, args);
    va_end(args);
    return text;
}

size_t mem_used(void)
{
    return atomic_load_explicit(&used, memory_order_relaxed);
}

size_t mem_peak(void)
{
    return atomic_load_explicit(&peak, memory_order_relaxed);
}
