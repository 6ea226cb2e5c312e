#!/bin/sh
# "apt purge" means: without a trace. The policy and the defaults were written by
# administrators, so dpkg does not know them; a plain removal keeps them. Other files
# beside them (certificates, for example) are left, and with them their folder.
set -e
if [ "$1" = purge ]; then
    rm -f /etc/encounter-launcher/policy.json /usr/share/encounter-launcher/defaults.json
    for folder in /etc/encounter-launcher /usr/share/encounter-launcher; do
        if [ -d "$folder" ]; then rmdir --ignore-fail-on-non-empty "$folder"; fi
    done
fi
exit 0
