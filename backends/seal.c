/* SPDX-License-Identifier: Apache-2.0 */
/* The head of a binary. Its hashes guard against damage, not against malice: the folder of the
 * cache is as trusted as the programs that use it. */
#include "backends/seal.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/map.h"

#define SEAL_SEED 0x64726966

static const char seal_magic[8] = {'D', 'R', 'F', 'T', 'B', 'I', 'N', '1'};

struct seal {
	char magic[8];
	uint64_t bytes, hash; /* of what follows */
	uint64_t device_hash; /* of the device's name and driver */
};
_Static_assert(sizeof(struct seal) == SEAL_BYTES, "the head is as large as it says");

static uint64_t device_hash(const struct be_info *info)
{
	return hash_bytes(info->driver, strlen(info->driver),
			  hash_bytes(info->name, strlen(info->name), SEAL_SEED));
}

void seal_write(unsigned char *sealed, size_t bytes, const struct be_info *info)
{
	struct seal s = {.bytes = bytes,
			 .hash = hash_bytes(sealed + SEAL_BYTES, bytes, SEAL_SEED),
			 .device_hash = device_hash(info)};

	memcpy(s.magic, seal_magic, sizeof(s.magic));
	memcpy(sealed, &s, sizeof(s));
}

int seal_check(const void *sealed, size_t sealed_bytes, const struct be_info *info,
	       const char *name, struct err *reterr)
{
	struct seal s;
	const unsigned char *data = sealed;

	if (sealed_bytes <= SEAL_BYTES)
		return err_set(reterr, -ESTALE, "program '%s': the binary is too short", name);
	memcpy(&s, sealed, sizeof(s));
	if (memcmp(s.magic, seal_magic, sizeof(seal_magic)) != 0 ||
	    s.bytes != sealed_bytes - SEAL_BYTES ||
	    s.hash != hash_bytes(data + SEAL_BYTES, sealed_bytes - SEAL_BYTES, SEAL_SEED))
		return err_set(reterr, -ESTALE, "program '%s': the binary is damaged", name);
	if (s.device_hash != device_hash(info))
		return err_set(reterr, -ESTALE, "program '%s': the binary is for another device",
			       name);
	return 0;
}
