#include "libpgraft/sim/linearizability.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "libpgraft/sim/linearizability_search.h"

namespace pgraft::sim {
namespace {

using Kind = ClientOperation::Kind;

constexpr std::size_t kShownBytes = 60;       // of a value
constexpr std::size_t kShownOperations = 12;  // of a list

std::string quote(std::string_view value) {
  constexpr const char* kHex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : value.substr(0, kShownBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (byte < 0x20 || byte >= 0x7f) {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      out += c;
    }
  }
  out += '"';
  if (value.size() > kShownBytes) out += "... of " + std::to_string(value.size()) + " bytes";
  return out;
}

std::string quote_held(const std::optional<std::string>& value) {
  return value ? quote(*value) : "absent";
}

void take_effect(const ClientOperation& op, bool absent_is_empty,
                 std::optional<std::string>& value) {
  switch (op.kind) {
    case Kind::kGet: break;
    case Kind::kPut: value = op.value; break;
    case Kind::kAppend: value = value.value_or("") + op.value; break;
    case Kind::kCas:
      if (value == op.expected ||
          (absent_is_empty && value.value_or("") == op.expected.value_or("")))
        value = op.value;
      break;
    case Kind::kDelete: value.reset(); break;
  }
}

std::string not_linearizable_text(std::span<const ClientOperation> history, std::size_t of,
                                  const LinearizabilityReport& report,
                                  const LinearizabilityOptions& options) {
  const auto line = [&](std::size_t number) { return "    " + describe(history[number]) + "\n"; };
  const auto& explained = report.explained;
  const auto& unexplained = report.unexplained;
  std::string text = "key " + quote(report.key) +
                     " is not linearizable: no order of its operations explains what returned by " +
                     std::to_string(history[unexplained.front()].returned) + "\n";
  text += "  explained: " + std::to_string(explained.size()) + " of " + std::to_string(of) +
          " operations";
  const std::size_t skipped =
      explained.size() > kShownOperations ? explained.size() - kShownOperations : 0;
  if (skipped != 0) text += ", the first " + std::to_string(skipped) + " not shown";
  text += explained.empty() ? "\n" : ", in this order:\n";
  std::optional<std::string> value;
  for (std::size_t i = 0; i < explained.size(); ++i) {
    if (i >= skipped) text += line(explained[i]);
    take_effect(history[explained[i]], options.absent_is_empty, value);
  }
  text +=
      "  the key is then " + quote_held(value) + "\n  not explained:\n" + line(unexplained.front());
  if (unexplained.size() == 1) return text;
  text += "  open at that time:\n";
  for (std::size_t i = 1; i < unexplained.size(); ++i) {
    if (i > kShownOperations) {
      text += "    and " + std::to_string(unexplained.size() - i) + " more\n";
      break;
    }
    text += line(unexplained[i]);
  }
  return text;
}

}  // namespace

std::string describe(const ClientOperation& op) {
  const bool returned = op.returned != kNeverReturned;
  const std::string key = quote(op.key);
  const std::string value = quote(op.value);
  std::string text = "client " + std::to_string(op.client) + " ";
  switch (op.kind) {
    case Kind::kGet: text += "get " + key + (returned ? " = " + quote_held(op.read) : ""); break;
    case Kind::kPut: text += "put " + key + " " + value; break;
    case Kind::kAppend: text += "append " + key + " " + value; break;
    case Kind::kCas: text += "cas " + key + " " + quote_held(op.expected) + " -> " + value; break;
    case Kind::kDelete: text += "delete " + key; break;
  }
  if (returned && op.succeeded && (op.kind == Kind::kCas || op.kind == Kind::kDelete))
    text += *op.succeeded ? " ok" : " failed";
  return text + " [" + std::to_string(op.called) + ", " +
         (returned ? std::to_string(op.returned) : "never") + "]";
}

Result<LinearizabilityReport> check_linearizability(std::span<const ClientOperation> history,
                                                    const LinearizabilityOptions& options) {
  if (history.size() > kMaxOperations) {
    return Status(Code::kInvalidArgument, "the history has " + std::to_string(history.size()) +
                                              " operations, at most " +
                                              std::to_string(kMaxOperations) + " can be checked");
  }
  std::map<std::string_view, std::vector<std::size_t>> numbers_of;
  for (std::size_t i = 0; i < history.size(); ++i) {
    const ClientOperation& op = history[i];
    if (op.returned < op.called) {
      return Status(Code::kInvalidArgument, "operation " + std::to_string(i) +
                                                " returned before it was called: " + describe(op));
    }
    // A get whose answer nobody saw says nothing.
    if (op.kind == Kind::kGet && op.returned == kNeverReturned) continue;
    numbers_of[op.key].push_back(i);
  }
  // The smallest first: the fewer operations, the better to read is what is wrong with them.
  std::vector<std::pair<std::string_view, std::vector<std::size_t>>> keys(numbers_of.begin(),
                                                                          numbers_of.end());
  std::stable_sort(keys.begin(), keys.end(),
                   [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });

  LinearizabilityReport report;
  for (auto& [key, numbers] : keys) {
    const std::size_t count = numbers.size();
    SearchResult result = search_order(history, std::move(numbers), options);
    report.steps += result.steps;
    if (result.verdict == Verdict::kUnknown && report.verdict == Verdict::kLinearizable) {
      report.verdict = result.verdict;
      report.key = key;
      report.text = "key " + quote(key) + ": not known whether its " + std::to_string(count) +
                    " operations are linearizable, the limit of " +
                    std::to_string(options.max_steps) + " steps was reached\n";
    }
    if (result.verdict == Verdict::kNotLinearizable) {
      report.verdict = result.verdict;
      report.key = key;
      report.explained = std::move(result.explained);
      report.unexplained = std::move(result.unexplained);
      report.text = not_linearizable_text(history, count, report, options);
      break;
    }
  }
  return report;
}

}  // namespace pgraft::sim
