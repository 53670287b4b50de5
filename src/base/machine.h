/* Facts about the machine, as far as this process may use it: affinity and container limits count.
 *
 * Any thread; nothing fails: what cannot be read does not limit.
 */
#ifndef BASE_MACHINE_H
#define BASE_MACHINE_H

#include <stdint.h>

/* Number of cores this process may run on, at least 1. On Apple silicon only its fast ones: work is
 * split evenly, and whoever got a slow core would keep all others waiting. */
int cpu_count(void);

/* Lets this process hold `wanted` files and connections open, or as many as the system grants
 * (macOS starts a process with 256). Returns how many it may hold now; never lowers that. */
uint64_t machine_allow_files(uint64_t wanted);

/* Bytes of memory that this process may use: the machine's, or its container's when that is less.
 */
uint64_t machine_ram_bytes(void);

/* Bytes of memory resident in this process now (RSS); 0 where it cannot be read. */
uint64_t machine_resident_bytes(void);

#endif
