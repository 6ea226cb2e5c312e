#!/bin/sh
# Makes the user, and the folder for its secrets. Starts nothing that did not run: there
# is no configuration yet, and an administrator says when.
set -e
if [ "$1" = configure ]; then
    systemd-sysusers org-backend.conf
    if [ ! -e /etc/org-backend/secrets ]; then
        install -d -m 0750 -o root -g org-backend /etc/org-backend/secrets
    fi
    if [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload >/dev/null || true
        # An upgrade: what runs is replaced, with its drain.
        if [ -n "$2" ]; then
            deb-systemd-invoke try-restart org-backend.service >/dev/null || true
        fi
    fi
fi
exit 0
