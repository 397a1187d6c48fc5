# SPDX-License-Identifier: Apache-2.0
# What is installed beside the programs: the configuration, the service and the manual.
MAN_IN = docs/man/driftctl.1.in docs/man/driftd.8.in docs/man/driftd.conf.5.in
MAN_OUT = docs/man/driftctl.1 docs/man/driftd.8 docs/man/driftd.conf.5
EXTRA_DIST += etc/driftd.conf etc/setup.sh systemd/driftd.service.in $(MAN_IN)

# Paths are put in here and not by configure, which leaves ${prefix} unexpanded.
SUBST_PATHS = $(AM_V_GEN)$(MKDIR_P) $(@D) && $(SED) -e 's,[@]sbindir[@],$(sbindir),g' \
  -e 's,[@]sysconfdir[@],$(sysconfdir),g' -e 's,[@]VERSION[@],$(PACKAGE_VERSION),g'
systemd/driftd.service: systemd/driftd.service.in Makefile
	$(SUBST_PATHS) $(srcdir)/systemd/driftd.service.in > $@.t && mv $@.t $@
docs/man/driftctl.1: docs/man/driftctl.1.in Makefile
	$(SUBST_PATHS) $(srcdir)/docs/man/driftctl.1.in > $@.t && mv $@.t $@
docs/man/driftd.8: docs/man/driftd.8.in Makefile
	$(SUBST_PATHS) $(srcdir)/docs/man/driftd.8.in > $@.t && mv $@.t $@
docs/man/driftd.conf.5: docs/man/driftd.conf.5.in Makefile
	$(SUBST_PATHS) $(srcdir)/docs/man/driftd.conf.5.in > $@.t && mv $@.t $@
nodist_man_MANS += $(MAN_OUT)
CLEANFILES += $(MAN_OUT) systemd/driftd.service
check_DATA += systemd/driftd.service

if WITH_SYSTEMD
nodist_systemdsystemunit_DATA = systemd/driftd.service
endif

# A configuration that is there stays; an uninstall removes it only when nobody has changed it.
install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(sysconfdir)'
	test -e '$(DESTDIR)$(sysconfdir)/driftd.conf' || \
	  $(INSTALL_DATA) $(srcdir)/etc/driftd.conf '$(DESTDIR)$(sysconfdir)/driftd.conf'
uninstall-local:
	if cmp -s $(srcdir)/etc/driftd.conf '$(DESTDIR)$(sysconfdir)/driftd.conf'; then \
	  rm -f '$(DESTDIR)$(sysconfdir)/driftd.conf'; fi

installcheck-local:
	'$(DESTDIR)$(sbindir)/driftd' --check-config '$(DESTDIR)$(sysconfdir)/driftd.conf'
