/* A machine's own proof that every instruction set computes the same bits: small serving kernels
 * on fixed numbers, hashed. Takes milliseconds; for doctor. */
#ifndef CLI_SELF_TEST_H
#define CLI_SELF_TEST_H

#include "base/err.h"
#include "base/hash.h"

/* The SHA-256 of what the kernels of `isa` (a name that kernels_available lists) make of fixed
 * inputs: products of every weight kind, norm, rope, attention, activation, softmax. */
int self_test_hash(const char *isa, char out[SHA256_HEX_BYTES], struct err *err) MUST_CHECK;

#endif
