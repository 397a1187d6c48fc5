/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes one character at `s` (`n` bytes are left). Returns its length 1..4 and the code point;
 * 0 when the bytes are not valid; -1 when they are a valid beginning that is cut off by `n`. */
int utf8_decode(const char *s, size_t n, uint32_t *ret_cp);

/* Encodes into `out` (4 bytes room); returns the length, 0 for what is no character. */
size_t utf8_encode(uint32_t cp, char *out);

/* True when the whole text is valid. */
bool utf8_valid(const char *s, size_t n);

/* Length of the longest prefix that ends at a character boundary, where an unfinished but so far
 * valid last character is left out. Invalid bytes count as characters of one byte. */
size_t utf8_complete(const char *s, size_t n);
