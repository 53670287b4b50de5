/* Looking a code point up: a binary search for the last range that starts at or before it. */
#include "text/unicode_class.h"

#include <assert.h>

uint32_t unicode_class(uint32_t code_point)
{
    const uint32_t mask = (1u << UNICODE_RANGE_SHIFT) - 1;
    size_t low = 0;
    size_t high = unicode_n_ranges;

    assert(code_point < UNICODE_CODE_POINTS);
    while (high - low > 1) {
        size_t mid = low + (high - low) / 2;
        if ((unicode_ranges[mid] & mask) <= code_point)
            low = mid;
        else
            high = mid;
    }
    return unicode_ranges[low] >> UNICODE_RANGE_SHIFT;
}
