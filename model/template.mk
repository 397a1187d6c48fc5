# SPDX-License-Identifier: Apache-2.0
libmodel_a_SOURCES += model/template.h
