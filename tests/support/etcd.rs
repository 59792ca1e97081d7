//! A real etcd on loopback: one node or three, killed, stopped and started again.

use super::{Room, needs, port, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub struct Etcd {
    nodes: Vec<Node>,
    cluster: String,
    tls: Option<(PathBuf, PathBuf)>,
}

struct Node {
    name: String,
    data: PathBuf,
    client: u16,
    peer: u16,
    child: Option<Child>,
}

impl Etcd {
    /// A cluster of `count` nodes, once it answers. With `tls` clients speak https, under this certificate
    /// and key.
    pub fn new(room: &Room, count: usize, tls: Option<(PathBuf, PathBuf)>) -> Etcd {
        needs("etcd");
        needs("etcdctl");
        let nodes: Vec<Node> = (0..count)
            .map(|number| Node {
                name: format!("n{number}"),
                data: room.path(&format!("etcd{number}")),
                client: port(),
                peer: port(),
                child: None,
            })
            .collect();
        let cluster: Vec<String> =
            nodes.iter().map(|node| format!("{}=http://127.0.0.1:{}", node.name, node.peer)).collect();
        let mut etcd = Etcd { nodes, cluster: cluster.join(","), tls };
        (0..count).for_each(|number| etcd.start(number));
        etcd.answers();
        etcd
    }

    pub fn start(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let state = if node.data.exists() { "existing" } else { "new" };
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let (client, peer) =
            (format!("{scheme}://127.0.0.1:{}", node.client), format!("http://127.0.0.1:{}", node.peer));
        let mut command = Command::new("etcd");
        command.args([
            "--name",
            &node.name,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster",
            &self.cluster,
        ]);
        command
            .args(["--initial-cluster-state", state, "--logger", "zap", "--log-level", "error", "--data-dir"])
            .arg(&node.data);
        if let Some((certificate, key)) = &self.tls {
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
        }
        node.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }

    /// The store that all nodes make.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.client)).collect();
        let scheme = if self.tls.is_some() { "etcds" } else { "etcd" };
        format!("{scheme}://{}/test", hosts.join(","))
    }

    pub fn ctl(&self, arguments: &[&str]) -> bool {
        let host = format!(
            "{}://127.0.0.1:{}",
            if self.tls.is_some() { "https" } else { "http" },
            self.nodes[0].client
        );
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &host])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((certificate, _)) = &self.tls {
            command.arg("--cacert").arg(certificate);
        }
        command.status().unwrap().success()
    }

    fn answers(&self) {
        until("etcd answers", || {
            self.nodes.iter().filter(|node| node.child.is_some()).all(|node| {
                let host = format!(
                    "{}://127.0.0.1:{}",
                    if self.tls.is_some() { "https" } else { "http" },
                    node.client
                );
                let mut command = Command::new("etcdctl");
                command
                    .env("ETCDCTL_API", "3")
                    .args(["--endpoints", &host, "endpoint", "health"])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                if let Some((certificate, _)) = &self.tls {
                    command.arg("--cacert").arg(certificate);
                }
                command.status().unwrap().success()
            })
        });
    }

    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.nodes[number].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Cut off: it keeps its connections and says nothing.
    pub fn signal(&self, number: usize, signal: Signal) {
        let child = self.nodes[number].child.as_ref().unwrap();
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|number| self.kill(number));
    }
}
