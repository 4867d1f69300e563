# Images of aerotow and of its test-bed. Targets:
#   aerotow  the factory itself, for production too: Python, ssh, no root
#   pool     HTCondor 25.14 on Debian stable: central manager and access points of the test-bed
#   site     one host of a Slurm cluster of the test-bed; ARG BASE chooses the Debian, and so the Slurm
# `aerotow testbed up` builds them all, `scripts/image` only the first.
# Nothing here needs a syntax image from a registry, and no registry or mirror is named.
ARG BASE=debian:trixie-slim
ARG DEPS=aerotow-deps


FROM ${BASE} AS site
# Daemons are started by the test-bed, not by package scripts.
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d \
 && printf 'Acquire::Check-Valid-Until "false";\nAPT::Install-Recommends "false";\n' > /etc/apt/apt.conf.d/50testbed
# Fixed ids: files written from outside the image must find their owner.
RUN groupadd -g 901 munge && useradd -r -u 901 -g munge -d /nonexistent -s /usr/sbin/nologin munge \
 && groupadd -g 64030 slurm && useradd -r -u 64030 -g slurm -d /var/lib/slurm -s /usr/sbin/nologin slurm \
 && groupadd -g 902 restd && useradd -r -u 902 -g restd -d /nonexistent -s /usr/sbin/nologin restd
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
      slurmctld slurmdbd slurmd slurm-client slurm-wlm-basic-plugins slurm-wlm-mysql-plugin \
      slurm-wlm-jwt-plugin slurmrestd stunnel4 openssl munge mariadb-server openssh-server procps jq curl ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/lib/mysql/* /etc/munge/munge.key /etc/ssh/ssh_host_* \
 && slurmctld -V | awk '{print $2}' > /etc/slurm-version
# pilot: the account the factory reaches by ssh. local: an ordinary user of the site, for security tests.
RUN useradd -m -u 2001 -s /bin/bash pilot && useradd -m -u 2002 -s /bin/bash local \
 && chmod 0700 /home/pilot /home/local && install -d -o pilot -g pilot -m 0700 /home/pilot/.ssh


FROM debian:trixie-slim AS pool
RUN printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d \
 && printf 'Acquire::Check-Valid-Until "false";\nAPT::Install-Recommends "false";\n' > /etc/apt/apt.conf.d/50testbed
# Debian stable has HTCondor 23.9, which lacks security fixes and is two majors from the Python client. The
# package of the next suite installs on stable together with the one library it needs in a newer version.
# Its source is derived from the source that this image already has.
COPY testbed/files/next-suite.sh /usr/local/sbin/next-suite
ARG CONDOR_SERIES=25.14
RUN /usr/local/sbin/next-suite trixie forky "condor libpcre2-8-0" && apt-get update -q \
 && version=$(apt-cache madison condor | awk '{print $3}' | grep "^${CONDOR_SERIES}\." | head -n 1) \
 && if [ -z "$version" ]; then \
      echo "HTCondor ${CONDOR_SERIES}.x is no longer offered; there is:" >&2; apt-cache madison condor >&2; \
      echo "Remedy: set CONDOR_SERIES to the series above (testbed/model.py), match htcondor== in" >&2; \
      echo "pyproject.toml to it, and run the system tests." >&2; exit 1; fi \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
      "condor=$version" libpcre2-8-0/forky openssl procps curl ca-certificates python3-minimal jq \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /etc/condor/passwords.d/* /etc/condor/tokens.d/* \
 && condor_version | sed -n 's/^.CondorVersion: \([0-9.]*\) .*/\1/p' > /etc/condor-version


FROM debian:bookworm-slim AS aerotow-deps
RUN printf 'Acquire::Check-Valid-Until "false";\nAPT::Install-Recommends "false";\n' > /etc/apt/apt.conf.d/50aerotow \
 && apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
      python3 python3-venv openssh-client ca-certificates procps tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
RUN groupadd -g 2000 aerotow && useradd -m -u 2000 -g aerotow -s /bin/bash aerotow \
 && install -d -o aerotow -g aerotow -m 0750 /var/lib/aerotow \
 && install -d -o aerotow -g aerotow -m 0755 /etc/aerotow \
 && install -d -o aerotow -g aerotow -m 0700 /etc/aerotow/secrets
# Wheels that the host has fetched by their hashes are installed with no network at all, so a network
# that inspects TLS does not matter. Without them pip fetches by hash itself; the secret `ca` (optional)
# is then the CA bundle to trust:  docker build --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt
COPY requirements.txt .cache/wheel[s] /tmp/wheels/
RUN --mount=type=secret,id=ca,required=false \
    python3 -m venv /opt/aerotow \
 && if ls /tmp/wheels/*.whl >/dev/null 2>&1; \
    then set -- --no-index --find-links /tmp/wheels; \
    else set --; if [ -s /run/secrets/ca ]; then set -- --cert /run/secrets/ca; fi; fi \
 && /opt/aerotow/bin/pip install -q --disable-pip-version-check --no-cache-dir "$@" \
      --only-binary :all: --require-hashes -r /tmp/wheels/requirements.txt \
 && rm -rf /tmp/wheels


# Our own code last, as one wheel that the host made: a change of it rebuilds only this layer.
FROM ${DEPS} AS aerotow
COPY .cache/dist/ /tmp/dist/
USER root
RUN /opt/aerotow/bin/pip install -q --disable-pip-version-check --no-cache-dir --no-index --no-deps /tmp/dist/*.whl \
 && ln -sf /opt/aerotow/bin/aerotow /usr/local/bin/aerotow && rm -rf /tmp/dist
USER aerotow
WORKDIR /var/lib/aerotow
ENV HOME=/home/aerotow
ENTRYPOINT ["/usr/bin/tini", "--", "aerotow"]
CMD ["--help"]
