"""Slurm's configuration of one site, as text. What is in it was measured on all three versions."""

from __future__ import annotations

from datetime import timedelta

from testbed import model

SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost=login
SlurmUser=slurm
AuthType=auth/munge
CredType=cred/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key=/var/lib/slurm/jwt.key
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=3
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=20
SlurmctldTimeout=30
MinJobAge=30
KillWait=10
InactiveLimit=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStorageEnforce=associations,limits,qos
AccountingStoreFlags={store_flags}
DefMemPerCPU=500
NodeName={nodes} CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName={partition} Nodes={nodes} Default=YES DefaultTime=10 MaxTime={minutes} PriorityTier=1 State=UP
PartitionName={high} Nodes={nodes} DefaultTime=10 MaxTime={minutes} PriorityTier=10 PreemptMode=OFF State=UP
PartitionName={low} Nodes={nodes} DefaultTime=10 MaxTime={minutes} PriorityTier=0 PreemptMode=CANCEL State=UP
"""

SLURMDBD_CONF = """\
DbdHost=localhost
SlurmUser=slurm
AuthType=auth/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key=/var/lib/slurm/jwt.key
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StorageUser=slurm
StoragePass=made-on-the-host
StorageLoc=slurm_acct_db
LogFile=/var/log/slurm/slurmdbd.log
PidFile=/run/slurm/slurmdbd.pid
"""

# The last line silences a fatal warning of Slurm 26; `loose_` lets MariaDB 10.11 pass over a name it does not know.
MARIADB_CONF = """\
[mysqld]
bind-address=127.0.0.1
skip-name-resolve
performance_schema=OFF
innodb_buffer_pool_size=24M
innodb_log_file_size=8M
innodb_log_buffer_size=2M
innodb_lock_wait_timeout=900
innodb_flush_log_at_trx_commit=2
key_buffer_size=1M
aria_pagecache_buffer_size=1M
max_connections=20
max_allowed_packet=16M
loose_innodb_snapshot_isolation=OFF
"""

# slurmrestd speaks plain HTTP on the loopback of the login host; what is outside gets TLS only.
STUNNEL_CONF = """\
pid = /run/testbed-stunnel.pid
[rest]
accept = 0.0.0.0:{port}
connect = 127.0.0.1:6820
cert = /etc/testbed/tls/rest.pem
key = /etc/testbed/tls/rest.key
"""


def stunnel_conf() -> str:
    """The TLS proxy in front of slurmrestd."""
    return STUNNEL_CONF.format(port=model.REST_PORT)


def slurm_conf(site: model.SlurmSite) -> str:
    """slurm.conf, the same file for login and compute hosts."""
    return SLURM_CONF.format(
        cluster=site.name,
        # sacct -B shows the stored batch script: a secret in it would show too, which the tests look for.
        store_flags="job_comment,job_script",
        nodes=",".join(site.nodes),
        cpus=site.cpus_per_node,
        memory=site.memory_per_node_mb,
        partition=site.partition,
        high=model.HIGH_PARTITION,
        low=model.BACKFILL_PARTITION,
        minutes=site.max_walltime // timedelta(minutes=1),
    )


def cgroup_conf(site: model.SlurmSite) -> str | None:
    """cgroup.conf, which must be absent on 22.05 (it knows no plugin ``disabled``, and slurmd does not start)."""
    return None if site.slurm_series == "22.05" else "CgroupPlugin=disabled\n"


def accounts(site: model.SlurmSite) -> str:
    """Arguments for ``sacctmgr -i``, one line each: the pilots' account, and one that has nothing to do with us."""
    return (
        f"add cluster {site.name}\n"
        f"add account {site.account} Cluster={site.name}\n"
        f"add user {model.PILOT_USER} Account={site.account} Cluster={site.name}\n"
        f"add account {model.OTHER_USER} Cluster={site.name}\n"
        f"add user {model.OTHER_USER} Account={model.OTHER_USER} Cluster={site.name}\n"
    )
