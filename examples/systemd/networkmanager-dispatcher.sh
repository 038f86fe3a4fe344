#!/bin/sh
# Called by NetworkManager when a link or its addresses changed: restores the routes that went with them.
#
#   install -m 755 networkmanager-dispatcher.sh /etc/NetworkManager/dispatcher.d/90-podwire
#
# NetworkManager calls it with the interface and the event, and waits for it: so the work is left to the service.

case ${2-} in
    up | down | dhcp4-change | dhcp6-change | reapply)
        exec systemctl --no-block start podwire-sync.service
        ;;
esac
