#include "libpgraft/node/expirations.h"

namespace pgraft::node {

void Expirations::begin(const state::KvStore& kv, std::uint64_t now) {
  end();
  active_ = true;
  if (kv.with_ttl() == 0) return;
  for (const auto& [key, item] : kv.items()) watch(key, item, now);
}

void Expirations::end() {
  active_ = false;
  ends_.clear();
  queue_.clear();
}

void Expirations::changed(const std::string& key, const state::KvStore& kv, std::uint64_t now) {
  if (!active_) return;
  forget(key);
  if (const state::KvItem* item = kv.find(key)) watch(key, *item, now);
}

void Expirations::watch(const std::string& key, const state::KvItem& item, std::uint64_t now) {
  if (item.ttl_ms == 0) return;
  // A tick more: the present one has begun already.
  const std::uint64_t at = now + (item.ttl_ms + tick_ms_ - 1) / tick_ms_ + 1;
  ends_[key] = at;
  queue_.emplace(at, key);
}

void Expirations::forget(const std::string& key) {
  const auto found = ends_.find(key);
  if (found == ends_.end()) return;
  queue_.erase({found->second, key});
  ends_.erase(found);
}

std::vector<state::KvExpire> Expirations::due(const state::KvStore& kv, std::uint64_t now,
                                              std::size_t max) {
  std::vector<state::KvExpire> found;
  while (!queue_.empty() && queue_.begin()->first <= now && found.size() < max) {
    const std::string key = queue_.begin()->second;
    forget(key);
    const state::KvItem* item = kv.find(key);
    if (item == nullptr || item->ttl_ms == 0) continue;
    found.push_back({key, item->modified});
    ends_[key] = now + retry_;
    queue_.emplace(now + retry_, key);
  }
  return found;
}

std::optional<std::uint64_t> Expirations::remaining_ms(const std::string& key,
                                                       std::uint64_t now) const {
  const auto found = ends_.find(key);
  if (found == ends_.end()) return std::nullopt;
  return found->second > now ? (found->second - now) * tick_ms_ : 0;
}

}  // namespace pgraft::node
