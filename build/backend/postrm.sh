#!/bin/sh
# "apt purge" takes the configuration, which dpkg does not know. The secrets, and what the
# backend has written (the audit, which must be kept, and notes that are not delivered yet),
# are left for an administrator, and so is the user whom they belong to.
set -e
if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = purge ]; then
    rm -f /etc/org-backend/config.yaml
    for folder in /etc/org-backend/secrets /etc/org-backend; do
        if [ -d "$folder" ]; then rmdir --ignore-fail-on-non-empty "$folder"; fi
    done
    if [ -d /run/systemd/system ] && command -v deb-systemd-helper >/dev/null; then
        deb-systemd-helper purge org-backend.service >/dev/null || true
    fi
    if [ -d /var/lib/org-backend ]; then
        echo "org-backend: /var/lib/org-backend is kept: it holds the audit and undelivered notes" >&2
    fi
fi
exit 0
