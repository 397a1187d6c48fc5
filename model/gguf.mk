# SPDX-License-Identifier: Apache-2.0
libmodel_a_SOURCES += model/gguf.h
