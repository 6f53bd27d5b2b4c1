# hypervisor-exporter beside the libvirtd of a hypervisor:
#
#   docker build --build-arg REVISION=$(git rev-parse --short=12 HEAD) -t hypervisor-exporter .
#   docker run -d --name hypervisor-exporter -p 9177:9177 \
#       -v /run/libvirt/libvirt-sock-ro:/run/libvirt/libvirt-sock-ro \
#       -v /var/lib/nova/instances:/var/lib/nova/instances:ro,rslave \
#       -v /sys/fs/cgroup:/host/sys/fs/cgroup:ro \
#       hypervisor-exporter
#
# /host/sys/fs/cgroup: the kernel's counters of what guests use (docs/guests.md). The exporter finds it at any place.
# --collector.guests: with --pid=host and --network=host, it also shows how long each guest's vCPUs wait for CPUs, and
# the traffic of its interfaces.
# Modular daemons: if libvirt runs one daemon per driver, its socket is /run/libvirt/virtqemud-sock-ro.
# Restarts of libvirt: a mounted socket stays the one that was there at the start. systemd keeps the socket over a
# restart, other service managers do not. With those, mount the folder /run/libvirt instead. The container then also
# sees the writable socket; only the socket's mode and polkit protect it.
# rslave: if the instances are on a file system that is mounted after the container has started, the container sees it.
# SELinux: containers may not use libvirt's socket. docker and podman: --security-opt label=type:spc_t. Never `:z` or `:Z`
# on these volumes: both write new labels on the host's own files, and QEMU may then not open its images.
# Users: the hypervisor must know the user of the container (`--user`), or its libvirtd closes the connection. For the
# same reason there must be no user namespace in between (for podman without root: --userns=keep-id).
# Images: if only their group may read them, the exporter asks libvirt for their sizes, which is slower. With
# `--group-add $(getent group kvm | cut -d: -f3)`, or another group of the images, the exporter reads them itself.
# Arguments replace the CMD below: repeat --instances-path among them, or mount a file and use --config.file.
# Transports: tls, tcp, libssh and libssh2 are in the image. qemu+ssh:// needs one more program:
#   docker build --build-arg EXTRA_PACKAGES=openssh-client ...
#
# The image is based on Debian 13. For Debian 12:
#   docker build --build-arg BASE=debian:12-slim ...
# The tag of the base moves with Debian's updates. To pin it to a digest: `make pin-images`, or
#   docker build --build-arg BASE=debian:13-slim@sha256:... ...
# Without a container engine or a registry, `make image` builds the same with buildah, on Debian 12 or 13, for either
# release (make image BASE=bookworm).

ARG BASE=debian:13-slim

FROM ${BASE} AS build
RUN apt-get update -q \
    && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends \
        gcc libc6-dev libvirt-dev pkg-config python3-dev python3-venv

# The runtime is unpacked from its packages alone: no shell, no package tools, nothing else to keep up to date.
# Python is named by its version (python3.13), because the package python3 brings dpkg, tar and what they need along.
# An empty list of installed packages makes apt fetch all that they depend on; what only unused modules of Python,
# libsasl's server side and the packages' own scripts want is left out. /lib and its like are links into /usr, as in
# the base: the package that makes them is not among these. What describes each package is kept where
# scanners for vulnerabilities look for it, and so are the licences. libvirt looks for its sockets in /var/run.
ARG EXTRA_PACKAGES=
RUN python=$(basename "$(readlink -f /usr/bin/python3)") \
    && mkdir -p /packages/partial /rootfs/usr/lib /rootfs/var/lib/dpkg/status.d \
    && for link in /bin /sbin /lib*; do \
        if [ -L "$link" ]; then cp -a "$link" /rootfs/ && mkdir -p "/rootfs/$(readlink "$link")"; fi || exit 1; \
    done \
    && apt-get install -yq --no-install-recommends --download-only \
        -o Dir::State::status=/dev/null -o Dir::Cache::archives=/packages \
        "$python" libvirt0 ${EXTRA_PACKAGES} \
    && cd /packages \
    && rm -f debconf_* dpkg_* tar_* libdb5* libncursesw6_* libreadline8* libsasl2-modules-db_* libsqlite3-0_* \
        readline-common_* \
    && for package in *.deb; do \
        dpkg-deb --extract "$package" /rootfs \
        && dpkg-deb --field "$package" > "/rootfs/var/lib/dpkg/status.d/${package%%_*}" \
        || exit 1; \
    done \
    && cd "/rootfs/usr/lib/$python" \
    && rm -rf /rootfs/usr/bin/pdb* /rootfs/usr/bin/py[dg]* curses dbm lib2to3 pydoc_data sqlite3 unittest \
        lib-dynload/_curses* lib-dynload/_dbm* lib-dynload/_sqlite3* lib-dynload/readline* \
    && cd /rootfs/usr/share \
    && find doc -type f ! -name copyright -delete \
    && rm -rf info lintian locale man /rootfs/usr/lib/*-linux-gnu/gconv \
    && mkdir /rootfs/run && ln -s /run /rootfs/var/run && mkdir -m 1777 /rootfs/tmp \
    && printf '%s\n' 'root:x:0:0:root:/:/sbin/nologin' \
        'nobody:x:65534:65534:nobody:/:/sbin/nologin' > /rootfs/etc/passwd \
    && printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' > /rootfs/etc/group \
    && printf '%s\n' 'hosts: files dns' > /rootfs/etc/nsswitch.conf

# What the exporter needs comes before itself, so that a change of its code does not compile libvirt-python again.
# The secret is optional: a pip.conf for a package index of one's own, which the image must not remember.
COPY deploy/requirements.lock /tools/
RUN --mount=type=secret,id=pip.conf \
    python=$(readlink -f /usr/bin/python3) \
    && "$python" -m venv --without-pip /opt/hypervisor-exporter \
    && "$python" -m venv /tools \
    && PIP_CONFIG_FILE=/run/secrets/pip.conf /tools/bin/pip --python /opt/hypervisor-exporter/bin/python \
        install -qq --no-cache-dir --no-compile --require-hashes --requirement /tools/requirements.lock \
    && find /opt/hypervisor-exporter -name '*.so' -exec strip --strip-unneeded {} +

# Compiled here, since the user it runs as cannot; time stamps of a layer may change, hence no look at them.
COPY . /src
ARG REVISION=
RUN --mount=type=secret,id=pip.conf \
    python=$(basename "$(readlink -f /usr/bin/python3)") \
    && PIP_CONFIG_FILE=/run/secrets/pip.conf SOURCE_REVISION=${REVISION} \
        /tools/bin/pip --python /opt/hypervisor-exporter/bin/python \
        install -qq --no-cache-dir --no-compile --no-deps /src \
    && rm -f /opt/hypervisor-exporter/bin/*ctivate* \
    && cp -a --parents /opt/hypervisor-exporter /rootfs \
    && "$python" -m compileall -qq -j 0 --invalidation-mode unchecked-hash -s /rootfs \
        "/rootfs/usr/lib/$python" /rootfs/opt/hypervisor-exporter


FROM scratch
ARG VERSION=
ARG REVISION=
LABEL org.opencontainers.image.title="hypervisor-exporter" \
      org.opencontainers.image.description="Prometheus exporter of a libvirt hypervisor's capacity, as Nova computes it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /rootfs /
ENV PATH=/opt/hypervisor-exporter/bin:/usr/bin
# A number, so that Kubernetes' runAsNonRoot can tell. This one, nobody's, because libvirtd turns away users that its
# own machine does not know, and every machine knows nobody. It owns no file, and its group is Debian's nogroup.
USER 65534:65534
EXPOSE 9177
STOPSIGNAL SIGTERM
# There is no shell and no curl. Whoever changes the port or turns on TLS gives a check of their own, or none.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python3", "-IS", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 9177, timeout=4); c.request('GET', '/-/healthy'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["hypervisor-exporter"]
# Named although it is the default: a mount that was forgotten is then an error, and not the container's own disk.
CMD ["--instances-path=/var/lib/nova/instances"]
