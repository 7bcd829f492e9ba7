"""Installation and systemd on machines of their own, made with debootstrap and systemd-nspawn: root, and minutes."""
